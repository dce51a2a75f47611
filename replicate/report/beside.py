"""The secondary criteria of a verdict, those that do not decide, in words: a name and a phrase for each."""

from __future__ import annotations

from collections.abc import Iterator

from replicate.estimate.flags import Flag
from replicate.estimate.published import Published
from replicate.judging.verdict import Secondary
from replicate.text import interval

MOST_SHOWN = 6
"""Longer lists of weight decays are shortened to their number and the two ends."""


def words(found: Secondary) -> tuple[tuple[str, str], ...]:
    """Name and phrase of each criterion that `found` has."""
    return tuple(_words(found))


def _words(found: Secondary) -> Iterator[tuple[str, str]]:
    if (paper := found.published) is not None:
        yield "the paper's method", _published(paper)
    if found.plug_in_gap_pp is not None:
        yield "the paper's method (plug-in)", f"gap {found.plug_in_gap_pp:.3g} pp"
    if found.cross_fitted_gap_pp is not None:
        yield "cross-fitted over seeds", f"gap {found.cross_fitted_gap_pp:.3g} pp"
    if (anova := found.anova) is not None:
        yield "ANOVA over architectures", f"F{anova.df} = {_number(anova.f)}, p {anova.p:.3g}, of best run's λ / η"
    if found.indistinguishable:
        sets = (f"at lr {one.lr:g} {_listed(one.wds)}{_flagged(one.flags)}" for one in found.indistinguishable)
        yield "indistinguishable from the best", "; ".join(sets)
    if (rivals := found.rivals) is not None:
        yield (
            "rival exponents",
            f"supported {rivals.supported or 'none'}, excluded {', '.join(rivals.excluded) or 'none'}",
        )
    if (figure := found.papers_figure) is not None:
        yield "the paper's figure", f"{figure.value:.3g}, {'' if figure.in_our_interval else 'not '}in our interval"
    if (prediction := found.prediction) is not None:
        ends = interval(prediction.low, prediction.high)
        yield "prediction interval", f"{ends}, {'holds' if prediction.holds_our_value else 'does not hold'} our value"
    if found.direction:
        yield "direction", found.direction
    if (band := found.strict_band) is not None:
        yield "strict band", f"{interval(band.low, band.high)}: {band.outcome}"
    if found.disagreement:
        yield "where they differ", found.disagreement


def _published(paper: Published) -> str:
    best = ", ".join(f"{one.wd:.3g} at lr {one.lr:g}" for one in paper.argmax)
    return (
        f"ratio {paper.rho:.3g} {interval(paper.rho_low, paper.rho_high)}, p for 0.10 {_number(paper.p_rho)}, slope "
        f"{_number(paper.slope)}, intercept {_number(paper.intercept)} (p {_number(paper.intercept_p)}), R² "
        f"{paper.r2:.3g}; best weight decay {best}"
    )


def _listed(wds: tuple[float, ...]) -> str:
    if len(wds) > MOST_SHOWN:
        return f"{len(wds)} from {wds[0]:.3g} to {wds[-1]:.3g}"
    return ", ".join(f"{wd:.3g}" for wd in wds)


def _flagged(flags: tuple[Flag, ...]) -> str:
    return f" ({', '.join(flags)})" if flags else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
