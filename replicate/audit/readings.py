"""Data read by hand from the paper's text, its reference list and its published scripts."""

from __future__ import annotations

from functools import partial

from replicate.audit.reported import Bibliography, Measured, Point, Printed, Recipe, StatedFigure, Work


def _works(text: str) -> tuple[Work, ...]:
    """The works in a list of `author year` or `author year/year of the venue`, separated by `; `."""
    entries = (entry.rpartition(" ") for entry in text.split("; "))
    return tuple(Work(author, *(int(year) for year in years.split("/"))) for author, _, years in entries)


BIBLIOGRAPHY = Bibliography(
    cited=_works(
        "Loshchilov and Hutter 2019; Lewkowycz and Gur-Ari 2020; Smith and Topin 2019; Li et al. 2020; Zhang et al. "
        "2019; Goyal et al. 2017; Steiner et al. 2022; He et al. 2019; Wortsman et al. 2022; Goodfellow et al. 2016; "
        "He et al. 2016; Dosovitskiy et al. 2021; Liu et al. 2022; Tolstikhin et al. 2021; Liu et al. 2021; "
        "Chen et al. 2023; Cubuk et al. 2020; Wightman et al. 2021"
    ),
    listed=_works(
        "Goodfellow et al. 2016; Goyal et al. 2017; He et al. 2019/2019; Lewkowycz and Gur-Ari 2020/2020; "
        "Li et al. 2020/2018; Loshchilov and Hutter 2019/2019; Smith and Topin 2019; Steiner et al. 2022/2022; "
        "Wortsman et al. 2022/2022; Zhang et al. 2019/2017"
    ),
)

_TRAINING, _ANALYSIS, _SHELL = "published training script", "published analysis script", "published shell loop"
_agrees, _differs = partial(Point, agrees=True), partial(Point, agrees=False)

SCRIPT = (
    _agrees("learning rates, weight decays, seeds, architectures", "6, 8, 5 and 5 of them", "the same ones", _SHELL),
    _agrees("optimiser", "AdamW, beta 0.9 and 0.999, epsilon 1e-8", "the same", _TRAINING),
    _agrees("schedule", "cosine with 10 warm-up epochs", "the same, one value per epoch", _TRAINING),
    _agrees("epochs", "200 on CIFAR-100, 90 on ImageNet", "the same", _TRAINING),
    _agrees("batch size on CIFAR-100", "128", "128", _TRAINING),
    _agrees("resamples of the bootstrap", "10,000 over seeds, reselecting and refitting", "the same", _ANALYSIS),
    _differs("batch size on ImageNet", "1024", "256", _TRAINING),
    _differs("colour jitter on CIFAR-100", "for the convolutional networks", "for none", _TRAINING),
    _differs("colour jitter on ImageNet", "for the convolutional networks", "for all five", _TRAINING),
    _differs("RandAugment of magnitude 9", "for the vision transformers", "for none", _TRAINING),
    _differs(
        "accuracy that is analysed",
        "test accuracy",
        "the best test accuracy over all epochs: selected on the test set",
        _TRAINING,
    ),
    _differs(
        "MLP-Mixer and Swin on 32 x 32 images",
        "trained",
        "only the ViT is built for that size; timm's other two stop with an error at the first batch, so 480 of the "
        "1,200 CIFAR-100 runs cannot be made",
        _TRAINING,
        decides=True,
    ),
    _differs(
        "runs at kappa x 0.1 x lr",
        "Table 2",
        "the loop runs only the eight weight decays of the grid",
        _SHELL,
        decides=True,
    ),
    _differs("log-log slope and intercept", "Table 1 and section 4.1", "not computed", _ANALYSIS),
    _differs("p-values of the ratio", "Table 1", "not computed", _ANALYSIS),
    _differs("analysis of variance", "F = 0.72", "a function for it is defined and never called", _ANALYSIS),
    _differs("fit of the accuracy loss", "section 3.3", "not computed", _ANALYSIS),
    _differs("gap of the one-dimensional search", "section 4.3", "not computed", _ANALYSIS),
    _differs("SGD, step and linear schedules", "section 4.4", "neither can be chosen", _TRAINING),
)
"""The described protocol compared with the published script."""

CONTRADICTIONS = (
    _differs(
        "effect of stronger augmentation on the best weight decay",
        "section 5: it may move the ratio upward",
        "section 6: it reduces the need for explicit regularisation, which moves the ratio downward",
        "sections 5 and 6",
    ),
    _differs(
        "what sets the strength of decay in AdamW",
        "section 2: each step shrinks the weights by lr x wd",
        "abstract and section 3.5: the effective penalty is wd / lr",
        "sections 2 and 3.5",
        decides=True,
    ),
)
"""Statements that contradict each other."""

CITED_WORK = (
    _differs(
        "Lewkowycz and Gur-Ari (2020)",
        "section 2: on the catapult phase, which the ratio wd / lr controls",
        "the work listed is on the time scale of L2 (the number of steps to the best accuracy falls as 1/wd, "
        "NeurIPS 2020, arXiv 2006.08643); the catapult phase is the subject of another paper, arXiv 2003.02218",
        "section 2",
    ),
    _differs(
        "Zhang et al.",
        "section 2: a theory in which weight decay is a key part of generalisation",
        "the work listed is experimental and finds explicit regularisation neither necessary nor sufficient for "
        "generalisation (ICLR 2017, arXiv 1611.03530)",
        "section 2",
    ),
)
"""Cited work, what it is said to show, and what it shows."""

RECIPES = (
    Recipe("DeiT", 1e-3, 0.05, "section 5"),
    Recipe("Swin", 1e-3, 0.05, "arXiv 2103.14030, section 4.1"),
    Recipe("ConvNeXt", 4e-3, 0.05, "arXiv 2201.03545, appendix A"),
)
"""Published AdamW recipes, all in the convention in which a step shrinks the weights by lr x wd."""


def _figure(name: str, printed: str, source: str) -> StatedFigure:
    return StatedFigure(name, Measured(Printed(printed)), source)


FIGURES = (
    _figure("cost/grid-points/without-zero", "48", "section 3.4"),
    _figure("cost/grid-runs/without-zero", "240", "section 3.4"),
    _figure("cost/pruned-grid/weight-decays", "5", "section 3.4"),
    _figure("cost/typical-grid/weight-decays", "5", "section 4.3"),
    _figure("cost/typical-grid/seeds", "3", "section 4.3"),
    _figure("cost/example-grid/learning-rates", "5", "section 1"),
    _figure("cost/example-grid/weight-decays", "5", "section 1"),
    _figure("cost/example-grid/seeds", "5", "section 1"),
    # The paper says that weight decay costs more above the optimum than below: the difference of drops exceeds this.
    _figure("asymmetry/imagenet", "0", "section 4.2"),
    # Exponents of the learning rate, from section 3.5: the penalty is wd * lr^-1, and wd proportional to lr^1 keeps
    # the balance of optimisation and regularisation.
    _figure("theory/penalty-exponent", "-1", "section 3.5"),
    _figure("theory/balance-exponent", "1", "abstract, section 3.5"),
)
"""Figures of the text that `replicate.paper.tables` does not contain."""
