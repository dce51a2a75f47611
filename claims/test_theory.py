"""The paper's derivation against the update rule it starts from, by small numerical experiments.

Paper: section 3.5 has an effective penalty of wd / lr, and a constant ratio wd / lr that keeps the balance of
optimisation and regularisation; section 2 has the textbook's closed form for L2.

Rule: each statement is tried in float64 on a problem whose answer is known; `consistent` where it comes out.

Cost: no training; about three seconds.

Run: pytest claims/test_theory.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.audit import findings_of
from replicate.audit.audits import Audit


@findings_of("theory")
def test_finding(audit: Audit, confront: Callable[[Audit], None]) -> None:
    confront(audit)
