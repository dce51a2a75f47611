"""The paper's own figures and design, recomputed: can they be what they are said to be?

Paper: Table 1's ratios, R squared and slopes on the grid of section 3.1; p-values and analysis of variance; counts and
savings; Table 2 against what the text says of it; the gap of section 4.3; cost, script, references.

Rule: a figure may be anything that rounds to the printed one. `consistent`: it fits; `inconsistent`: it does not;
`decision-inconsistent`: it does not and a conclusion of the paper falls with it. The finding says what it assumes and
what would make it consistent.

Cost: nothing is trained; about three seconds. `replicate audit` prints the same.

Run: pytest claims/test_audit.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.audit import findings_of
from replicate.audit.audits import Audit


@findings_of("audit")
def test_finding(audit: Audit, confront: Callable[[Audit], None]) -> None:
    confront(audit)
