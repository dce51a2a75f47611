"""The paper's own figures and design, recomputed: are they consistent with each other?

Paper: Table 1's ratios, R squared and slopes on the grid of section 3.1; p-values and analysis of variance; counts and
savings; Table 2 against the text about it; the gap of section 4.3; cost, script, references.

Rule: a figure may be any number that rounds to the printed one. `consistent`: some such number fits; `inconsistent`:
none does; `decision-inconsistent`: none does, and a conclusion of the paper depends on it. The finding names its
assumptions and what would make it consistent.

Cost: no training, about three seconds. `replicate audit` prints the same findings.

Run: pytest claims/test_audit.py
"""

from __future__ import annotations

from collections.abc import Callable

from fixtures.audit import findings_of
from replicate.audit.audits import Audit


@findings_of("audit")
def test_finding(audit: Audit, confront: Callable[[Audit], None]) -> None:
    confront(audit)
