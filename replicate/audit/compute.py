"""Were the stated hours enough for the runs, given the models' FLOPs, the device's peak and published speeds?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from replicate.audit.finding import Check, Finding, from_checks
from replicate.audit.flop_counts import COUNTED_WITH, FLOPS
from replicate.audit.reported import Campaign, Reported, need

PEAK_FLOPS = 312e12
"""A100, dense FP16 or BF16 with FP32 accumulation (NVIDIA A100 Tensor Core GPU Architecture, white paper, table 1)."""


@dataclass(frozen=True)
class Rate:
    """A published training rate in images per second on one device, at 224 x 224 in mixed precision."""

    images_per_second: float
    device: str
    source: str


A100_RESNET50 = (
    Rate(2470, "A100 80GB", "NVIDIA/DeepLearningExamples, PyTorch ResNet-50 v1.5: 90 epochs in about 14 hours on one"),
    Rate(2600, "A100", "huggingface/pytorch-image-models issue 1491: timm's benchmark, without loading images"),
)

RTX_3090 = {"resnet50": 1218.01, "vit_s16": 1057.92, "convnext_t": 819.24, "mixer_s16": 1660.76, "swin_t": 648.69}
"""Training images per second on an RTX 3090: column train_samples_per_sec of huggingface/pytorch-image-models,
results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv."""

SLACK = 1.5
"""A claimed rate counts as too high only above this multiple of the published rate: tuned code can be faster."""


def a100_rate(arch: str) -> float:
    """Images per second of `arch` on an A100: ResNet-50's published best times `arch` / ResNet-50 on an RTX 3090."""
    best = max(rate.images_per_second for rate in A100_RESNET50)
    return best * RTX_3090[arch] / RTX_3090["resnet50"]


def images(campaign: Campaign) -> float:
    """Number of training images that all runs of a campaign process, repetitions included."""
    return float(campaign.runs) * campaign.epochs * campaign.train_images


def claimed_rate(campaign: Campaign) -> float:
    """Images per second and device implied by the claimed hours; evaluation is ignored, which favours the paper."""
    return images(campaign) / (campaign.hours.high * 3600)


def peak_share(campaign: Campaign, archs: list[str]) -> float:
    """Share of the device's peak FLOP/s that training at the claimed rate takes, averaged over `archs`."""
    mean = float(np.mean([FLOPS[arch, campaign.image_size].training for arch in archs]))
    return claimed_rate(campaign) * mean / PEAK_FLOPS


def published_hours(campaign: Campaign, archs: list[str]) -> float:
    """Device-hours of the campaign at the published rates, the runs shared equally among the architectures."""
    return float(np.mean([images(campaign) / a100_rate(arch) for arch in archs])) / 3600


def compute(paper: Reported) -> Finding:
    """`audit/compute`: the stated device-hours against the device's peak FLOP/s and published training throughputs."""
    need(paper.campaigns, "device-hours of the runs")
    archs = [learner.name for learner in paper.learners]
    need(archs and all(arch in RTX_3090 for arch in archs), f"architectures among {', '.join(RTX_3090)}")
    need(all((archs[0], c.image_size) in FLOPS for c in paper.campaigns), "images of 32 or 224 pixels")
    checks, parts = [], []
    details: dict[str, Any] = {"operations counted with": COUNTED_WITH, "peak, FLOP/s": PEAK_FLOPS}
    for c in paper.campaigns:
        rate, share = claimed_rate(c), peak_share(c, archs)
        found: dict[str, Any] = {
            "images a second and device": rate,
            "steps a second and device": rate / c.batch_size,
            "share of peak": share,
            "share of peak by architecture": {a: peak_share(c, [a]) for a in archs},
            "PFLOP a run": {a: FLOPS[a, c.image_size].training * c.epochs * c.train_images / 1e15 for a in archs},
        }
        text = f"{c.dataset}: {rate:,.0f} images per second on each A100, {100 * share:.0f} % of its peak"
        what, printed, percent = f"{c.dataset}, share of peak", f"{c.hours.text} hours", f"{100 * share:.0f} %"
        checks.append(Check(what, printed, percent, holds=share < 1, source="published script", decides=True))
        if c.image_size == 224:
            hours = published_hours(c, archs)
            resnet = max(r.images_per_second for r in A100_RESNET50)
            found |= {
                "hours at published rates": hours,
                "published rates": {a: a100_rate(a) for a in archs},
                "sources": [f"{r.images_per_second:g} on {r.device}: {r.source}" for r in A100_RESNET50],
            }
            what, usual, fits = f"{c.dataset}, hours", f"{hours:,.0f} at published rates", c.hours.high * SLACK >= hours
            checks.append(Check(what, c.hours.text, usual, holds=fits, source="published script"))
            text += (
                f", where ResNet-50's best published rate is {resnet:,.0f}; at published rates, all runs "
                f"take {hours:,.0f} hours instead of {c.hours.text}"
            )
        parts.append(text)
        details[c.dataset] = found
    return from_checks(
        checks,
        source="published script, hardware requirements",
        claimed=", ".join(f"{c.dataset}: {c.hours.text} A100-hours for {c.runs:,} runs" for c in paper.campaigns),
        evidence=f"{'; '.join(parts)}.",
        assumes="mixed precision on A100s; operations counted on timm's models, forward and backward; the rate of "
        "ResNet-50 was measured on an A100, other rates are scaled by their ratio to it on an RTX 3090; up to "
        f"{SLACK:g} times the published rate is accepted",
        consistent_if="the runs were shorter, at a lower resolution, or on more or faster devices",
        details=details,
    )
