"""The paper's derivation, checked against the update rule it starts from by small numerical experiments.

Paper: section 3.5 derives an effective penalty of wd / lr, and says that a constant ratio wd / lr keeps optimisation
and regularisation in balance; section 2 gives the textbook's closed form for L2.

Rule: each statement is tested in float64 on a problem with a known answer; `consistent` if it holds there.

Cost: no training, about three seconds.

Run: pytest claims/test_theory.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.audit import findings_of
from replicate.audit.audits import Audit


@findings_of("theory")
def test_finding(audit: Audit, confront: Callable[[Audit], None]) -> None:
    confront(audit)
