"""A picture (SVG) of the grid and the claimed line, with every weight decay that the grid can find to be best."""

from __future__ import annotations

import math
from html import escape

from replicate.audit.finding import NotStated
from replicate.audit.reachability import enumerate_fits
from replicate.audit.reported import Reported
from replicate.runs.run import weight_decay_is_inert

WIDTH, HEIGHT = 760, 520
LEFT, RIGHT, TOP, BOTTOM = 78, 190, 54, 64
ZONE = 2.0
"""Best weight decays within this factor of the claimed line count as on the line."""


def picture(paper: Reported) -> str:
    """The SVG document. Logarithmic axes; weight decay 0 has a row of its own below the axes."""
    lrs = [lr for lr, _ in paper.grid]
    positive = sorted({wd for _, wds in paper.grid for wd in wds if wd > 0})
    line = [paper.rho * lr for lr in lrs]
    x_ends = lrs[0] / 1.6, lrs[-1] * 1.6
    y_ends = min(line) / 8, max(positive[-1], max(line)) * 2
    plot_bottom = HEIGHT - BOTTOM - 34  # the row of weight decay 0 lies beneath

    def x(lr: float) -> float:
        share = math.log(lr / x_ends[0]) / math.log(x_ends[1] / x_ends[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(wd: float) -> float:
        if wd <= 0:
            return HEIGHT - BOTTOM - 12
        share = math.log(wd / y_ends[0]) / math.log(y_ends[1] / y_ends[0])
        return plot_bottom - share * (plot_bottom - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(_title(paper))}</text>',
        f'<text x="{LEFT}" y="40" fill="#555">{escape(_subtitle(paper))}</text>',
    ]
    # Where decay cannot change a float32 weight: lr * wd < 2^-25, left of a falling line.
    inert = [(lr, min(max(2.0**-25 / lr, y_ends[0]), y_ends[1])) for lr in x_ends]
    corners = " ".join(
        f"{x(lr):.1f},{y(wd):.1f}" for lr, wd in [(x_ends[0], y_ends[0]), inert[0], inert[1], (x_ends[1], y_ends[0])]
    )
    out.append(f'<polygon points="{corners}" fill="#e8e8e8"/>')
    band = [(x_ends[0], ZONE), (x_ends[1], ZONE), (x_ends[1], 1 / ZONE), (x_ends[0], 1 / ZONE)]
    corners = " ".join(f"{x(lr):.1f},{y(f * paper.rho * lr):.1f}" for lr, f in band)
    out.append(f'<polygon points="{corners}" fill="#f3c9a5" opacity="0.7"/>')
    ends = [(x(lr), y(paper.rho * lr)) for lr in x_ends]
    out.append(
        f'<line x1="{ends[0][0]:.1f}" y1="{ends[0][1]:.1f}" x2="{ends[1][0]:.1f}" y2="{ends[1][1]:.1f}" '
        'stroke="#c1440e" stroke-width="2"/>'
    )
    out += _axes(paper, lrs, positive, x, y, plot_bottom)
    for lr, wds in paper.grid:
        for wd in wds:
            near = wd > 0 and abs(math.log(wd / (paper.rho * lr))) <= math.log(ZONE)
            fill = "#c1440e" if near else "white" if wd == 0 or weight_decay_is_inert(lr, wd) else "#2a5d8f"
            out.append(f'<circle cx="{x(lr):.1f}" cy="{y(wd):.1f}" r="4.5" fill="{fill}" stroke="#2a5d8f"/>')
    for lr in lrs:
        size = 4
        cx, cy = x(lr), y(paper.rho * lr)
        out.append(
            f'<path d="M{cx - size:.1f} {cy - size:.1f}L{cx + size:.1f} {cy + size:.1f}M{cx - size:.1f} {cy + size:.1f}'
            f'L{cx + size:.1f} {cy - size:.1f}" stroke="#c1440e" stroke-width="2"/>'
        )
    out += _legend(paper)
    return "\n".join([*out, "</svg>", ""])


def _title(paper: Reported) -> str:
    on = sum(
        any(wd > 0 and abs(math.log(wd / (paper.rho * lr))) <= math.log(ZONE) for wd in wds) for lr, wds in paper.grid
    )
    return f"The grid reaches the claimed line, within a factor {ZONE:g}, at {on} of {len(paper.grid)} learning rates"


def _subtitle(paper: Reported) -> str:
    claimed = f"Claimed: best wd = {paper.rho:g} x lr."
    try:
        fits = enumerate_fits(paper.grid)
    except NotStated:
        return claimed
    smallest = fits.rho[fits.slope == fits.slope]  # NaN where a best weight decay is 0
    if not len(smallest):
        return claimed
    return f"{claimed} Smallest ratio the grid can give with every best wd above 0: {smallest.min():.3g}."


def _axes(paper: Reported, lrs: list[float], wds: list[float], x: object, y: object, bottom: float) -> list[str]:
    assert callable(x) and callable(y)
    out = [
        f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" stroke="black"/>',
        f'<line x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{bottom}" stroke="black"/>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">learning rate</text>',
        f'<text x="16" y="{(TOP + bottom) / 2}" text-anchor="middle" transform="rotate(-90 16 {(TOP + bottom) / 2})">'
        "weight decay</text>",
    ]
    for lr in lrs:
        out.append(f'<text x="{x(lr):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{lr:g}</text>')
    decades = range(math.floor(math.log10(min(paper.rho * lrs[0], wds[0]))), math.ceil(math.log10(wds[-1])) + 1)
    for k in decades:
        if TOP <= y(10.0**k) <= bottom:
            out.append(f'<text x="{LEFT - 8}" y="{y(10.0**k) + 4:.1f}" text-anchor="end">1e{k}</text>')
            out.append(
                f'<line x1="{LEFT - 4}" y1="{y(10.0**k):.1f}" x2="{LEFT}" y2="{y(10.0**k):.1f}" stroke="black"/>'
            )
    if any(0 in values for _, values in paper.grid):
        out.append(f'<text x="{LEFT - 8}" y="{y(0.0) + 4:.1f}" text-anchor="end">0</text>')
    return out


def _legend(paper: Reported) -> list[str]:
    left, top = WIDTH - RIGHT + 14, TOP + 10
    rows = [
        ('<line x1="0" y1="0" x2="18" y2="0" stroke="#c1440e" stroke-width="2"/>', f"wd = {paper.rho:g} x lr, claimed"),
        ('<rect x="0" y="-6" width="18" height="12" fill="#f3c9a5"/>', "within a factor 2 of it"),
        ('<path d="M5 -4L13 4M5 4L13 -4" stroke="#c1440e" stroke-width="2"/>', "best wd by the claim"),
        ('<circle cx="9" cy="0" r="4.5" fill="#2a5d8f" stroke="#2a5d8f"/>', "reachable best wd"),
        ('<circle cx="9" cy="0" r="4.5" fill="#c1440e" stroke="#2a5d8f"/>', "reachable and claimed"),
        ('<circle cx="9" cy="0" r="4.5" fill="white" stroke="#2a5d8f"/>', "reachable, no decay"),
        ('<rect x="0" y="-6" width="18" height="12" fill="#e8e8e8"/>', "too small to change"),
        ("", "a float32 weight"),
    ]
    return [
        f'<g transform="translate({left} {top + 22 * i})">{mark}<text x="26" y="4">{escape(label)}</text></g>'
        for i, (mark, label) in enumerate(rows)
    ]
