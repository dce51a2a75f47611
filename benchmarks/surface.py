"""Error of the best weight decay by an argmax, a response surface and this project's smooth curve.

    python benchmarks/surface.py [--landscapes N] [--seeds N]

Synthetic landscapes, five seeds, SD 0.3 pp, seven weight decays a factor 3 apart around the optimum, the paper's six
learning rates, for each shape that has one best weight decay. The error is the root mean square, over landscapes and
learning rates, of the error in ln(best weight decay); if a method gives no maximum, the grid's end to which it points
is taken. The response surface is the usual one: accuracy as a quadratic in ln(learning rate) and ln(weight decay), with
their product, by least squares over all runs; `a quadratic each` is fitted to each learning rate. These errors are the
reason for a Gaussian process in `replicate/estimate/accuracy_curve.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from replicate.calibration.studies import WITHOUT_OPTIMUM
from replicate.estimate import fits
from replicate.estimate.quantiles import chi2_quantile
from replicate.landscape.landscape import Landscape, Slice
from replicate.landscape.synthetic import SHAPES, Truth, bracket_grid, draw

Floats = NDArray[np.float64]


def argmax(landscape: Landscape) -> Floats:
    """ln of the weight decay with the best mean, at each learning rate."""
    return np.array([np.log(cut.wds[cut.scores.mean(axis=1).argmax()]) for cut in landscape.slices()])


def top(low: float, high: float, slope: float, curvature: float) -> float:
    """The x between `low` and `high` at which slope * x + curvature * x² is largest."""
    if curvature < 0:
        return float(np.clip(-slope / (2 * curvature), low, high))
    return high if slope * high + curvature * high**2 > slope * low + curvature * low**2 else low


def quadratic_each(landscape: Landscape) -> Floats:
    """ln of the weight decay at which a parabola fitted to a learning rate's means is largest, at each rate."""

    def of(cut: Slice) -> float:
        x = np.log(cut.wds)
        curvature, slope, _ = np.polyfit(x, cut.scores.mean(axis=1), 2)
        return top(x[0], x[-1], slope, curvature)

    return np.array([of(cut) for cut in landscape.slices()])


def response_surface(landscape: Landscape) -> Floats:
    """ln of the best weight decay at each rate, by one quadratic in ln(learning rate) and ln(weight decay)."""
    frame = landscape.frame
    # Centred and scaled: the powers of raw logarithms are nearly collinear.
    e, w = np.log(frame["lr"].to_numpy()), np.log(frame["wd"].to_numpy())
    e_mean, w_mean = e.mean(), w.mean()
    e, w = e - e_mean, w - w_mean
    design = np.column_stack([np.ones(len(e)), e, w, e**2, e * w, w**2])
    beta = np.linalg.lstsq(design, frame["score"].to_numpy(), rcond=None)[0]
    found = []
    for cut in landscape.slices():
        x = np.log(cut.wds) - w_mean
        found.append(top(x[0], x[-1], beta[2] + beta[4] * (np.log(cut.lr) - e_mean), beta[5]) + w_mean)
    return np.array(found)


def smooth_curve(landscape: Landscape) -> Floats:
    """ln of the best weight decay by this project's Gaussian process: its middle, clipped to the grid, at each rate."""
    fit = fits.line(landscape)
    assert fit is not None
    grids = [np.log(cut.wds) for cut in landscape.slices()]
    middles = [curve.middle(float(chi2_quantile(0.95, 1))) for curve in fit.curves]
    return np.array([np.clip(m, x[0], x[-1]) for m, x in zip(middles, grids, strict=True)])


METHODS: dict[str, Callable[[Landscape], Floats]] = {
    "argmax": argmax,
    "a quadratic each": quadratic_each,
    "response surface": response_surface,
    "smooth curve": smooth_curve,
}


def error(method: Callable[[Landscape], Floats], truth: Truth, count: int, seeds: int) -> float:
    """Root mean square error of `method` over `count` landscapes and all learning rates."""
    squares = []
    for index in range(count):
        landscape = draw(truth, bracket_grid(truth), np.random.default_rng([index, 17]), seeds=range(seeds))
        best = np.log([truth.best_wd(cut.lr) for cut in landscape.slices()])
        squares.append((method(landscape) - best) ** 2)
    return float(np.sqrt(np.mean(squares)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--landscapes", type=int, default=40, help="of each shape (default: 40)")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print(f"{'shape':12}" + "".join(f"{name:>18}" for name in METHODS))
    means = np.zeros(len(METHODS))
    shapes = [shape for shape in SHAPES if shape not in WITHOUT_OPTIMUM]
    for shape in shapes:
        errors = [error(method, Truth(shape=shape), asked.landscapes, asked.seeds) for method in METHODS.values()]
        means += np.square(errors) / len(shapes)
        print(f"{shape:12}" + "".join(f"{e:>18.3f}" for e in errors), flush=True)
    print(f"{'all':12}" + "".join(f"{e:>18.3f}" for e in np.sqrt(means)))


if __name__ == "__main__":
    main()
