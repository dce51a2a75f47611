"""What was read off the paper's text, its reference list and its published scripts by hand, as data without logic."""

from __future__ import annotations

from replicate.audit.reported import Bibliography, Measured, Point, Printed, Recipe, StatedFigure, Work

BIBLIOGRAPHY = Bibliography(
    cited=(
        Work("Loshchilov and Hutter", 2019), Work("Lewkowycz and Gur-Ari", 2020), Work("Smith and Topin", 2019),
        Work("Li et al.", 2020), Work("Zhang et al.", 2019), Work("Goyal et al.", 2017), Work("Steiner et al.", 2022),
        Work("He et al.", 2019), Work("Wortsman et al.", 2022), Work("Goodfellow et al.", 2016),
        Work("He et al.", 2016), Work("Dosovitskiy et al.", 2021), Work("Liu et al.", 2022),
        Work("Tolstikhin et al.", 2021), Work("Liu et al.", 2021), Work("Chen et al.", 2023),
        Work("Cubuk et al.", 2020), Work("Wightman et al.", 2021),
    ),
    listed=(
        Work("Goodfellow et al.", 2016), Work("Goyal et al.", 2017), Work("He et al.", 2019, 2019),
        Work("Lewkowycz and Gur-Ari", 2020, 2020), Work("Li et al.", 2020, 2018),
        Work("Loshchilov and Hutter", 2019, 2019), Work("Smith and Topin", 2019), Work("Steiner et al.", 2022, 2022),
        Work("Wortsman et al.", 2022, 2022), Work("Zhang et al.", 2019, 2017),
    ),
)  # fmt: skip

_TRAINING, _ANALYSIS, _SHELL = "published training script", "published analysis script", "published shell loop"

SCRIPT = (
    Point("learning rates, weight decays, seeds, architectures", "6, 8, 5 and 5 of them", "the same ones",
          True, _SHELL),
    Point("optimiser", "AdamW, beta 0.9 and 0.999, epsilon 1e-8", "the same", True, _TRAINING),
    Point("schedule", "cosine with 10 warm-up epochs", "the same, one value an epoch", True, _TRAINING),
    Point("epochs", "200 on CIFAR-100, 90 on ImageNet", "the same", True, _TRAINING),
    Point("batch size on CIFAR-100", "128", "128", True, _TRAINING),
    Point("resamples of the bootstrap", "10,000 over seeds, reselecting and refitting", "the same", True, _ANALYSIS),
    Point("batch size on ImageNet", "1024", "256", False, _TRAINING),
    Point("colour jitter on CIFAR-100", "for the convolutional networks", "for none", False, _TRAINING),
    Point("colour jitter on ImageNet", "for the convolutional networks", "for all five", False, _TRAINING),
    Point("RandAugment of magnitude 9", "for the vision transformers", "for none", False, _TRAINING),
    Point("accuracy that is analysed", "test accuracy", "the best test accuracy over all epochs: selected on the test "
          "set", False, _TRAINING),
    Point("MLP-Mixer and Swin on 32 x 32 images", "trained", "only the ViT is built for that size; timm's other two "
          "stop with an error at the first batch, so 480 of the 1,200 CIFAR-100 runs cannot be made", False,
          _TRAINING, decides=True),
    Point("runs at kappa x 0.1 x lr", "Table 2", "the loop runs the eight weight decays of the grid only", False,
          _SHELL, decides=True),
    Point("log-log slope and intercept", "Table 1 and section 4.1", "not computed", False, _ANALYSIS),
    Point("p-values of the ratio", "Table 1", "not computed", False, _ANALYSIS),
    Point("analysis of variance", "F = 0.72", "a function for it is defined and never called", False, _ANALYSIS),
    Point("fit of the accuracy loss", "section 3.3", "not computed", False, _ANALYSIS),
    Point("gap of the one-dimensional search", "section 4.3", "not computed", False, _ANALYSIS),
    Point("SGD, step and linear schedules", "section 4.4", "neither can be chosen", False, _TRAINING),
)  # fmt: skip
"""Described protocol against published script."""

CONTRADICTIONS = (
    Point(
        "effect of stronger augmentation on the best weight decay",
        "section 5: it may move the ratio upward",
        "section 6: it lessens the need for explicit regularisation, which moves it downward",
        False, "sections 5 and 6",
    ),
    Point(
        "what sets the strength of decay in AdamW",
        "section 2: each step shrinks the weights by lr x wd",
        "abstract and section 3.5: the effective penalty is wd / lr",
        False, "sections 2 and 3.5", decides=True,
    ),
)  # fmt: skip
"""Statements that exclude each other."""

CITED_WORK = (
    Point(
        "Lewkowycz and Gur-Ari (2020)",
        "section 2: on the catapult phase, which the ratio wd / lr controls",
        "the work listed is on the time scale of L2 (the best accuracy comes after a number of steps that falls as "
        "1/wd, NeurIPS 2020, arXiv 2006.08643); the catapult phase is another paper, arXiv 2003.02218",
        False, "section 2",
    ),
    Point(
        "Zhang et al.",
        "section 2: a theory in which weight decay is a key part of generalisation",
        "the work listed is an experimental one, and finds explicit regularisation neither necessary nor sufficient "
        "for generalisation (ICLR 2017, arXiv 1611.03530)",
        False, "section 2",
    ),
)  # fmt: skip
"""Cited work, what it is said to show, and what it shows."""

RECIPES = (
    Recipe("DeiT", 1e-3, 0.05, "section 5"),
    Recipe("Swin", 1e-3, 0.05, "arXiv 2103.14030, section 4.1"),
    Recipe("ConvNeXt", 4e-3, 0.05, "arXiv 2201.03545, appendix A"),
)
"""Published AdamW recipes, all in the convention where a step shrinks the weights by lr x wd."""


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
    # Weight decay is said to hurt more above the optimum than below: the difference of drops lies above this.
    _figure("asymmetry/imagenet", "0", "section 4.2"),
    # Exponents of the learning rate, from section 3.5: the penalty is wd * lr^-1, and wd proportional to lr^1 keeps
    # the balance of optimisation and regularisation.
    _figure("theory/penalty-exponent", "-1", "section 3.5"),
    _figure("theory/balance-exponent", "1", "abstract, section 3.5"),
)
"""What the text says without a number of its own in `replicate.paper.tables`."""
