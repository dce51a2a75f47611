"""The paper's experimental protocol as data, from section 3.1 and the published script."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One of the paper's five architectures."""

    name: str
    """The name in all ids of this project."""
    title: str
    timm_name: str
    """The name in timm, as in the published script."""
    convolutional: bool
    vision_transformer: bool
    """Whether the protocol counts it among the "ViTs", which are trained with RandAugment."""


ARCHITECTURES = (
    Architecture("resnet50", "ResNet-50", "resnet50", True, False),
    Architecture("vit_s16", "ViT-S/16", "vit_small_patch16_224", False, True),
    Architecture("convnext_t", "ConvNeXt-T", "convnext_tiny", True, False),
    Architecture("mixer_s16", "MLP-Mixer-S/16", "mixer_s16_224", False, False),
    Architecture("swin_t", "Swin-T", "swin_tiny_patch4_window7_224", False, True),
)

DATASETS = ("cifar100", "imagenet")

LRS = (5e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
WEIGHT_DECAYS = (0.0, 0.001, 0.005, 0.01, 0.03, 0.05, 0.1, 0.3)
SEEDS = (0, 1, 2, 3, 4)
KAPPAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Table 2's multiples of the claimed best weight decay, with 1."""

RHO = 0.10
"""The claimed ratio of the best weight decay to the learning rate."""
RHO_SGD = 0.005

ADAMW_BETAS = (0.9, 0.999)
ADAMW_EPS = 1e-8
SGD_MOMENTUM = 0.9

EPOCHS = {"cifar100": 200, "imagenet": 90}
BATCH_SIZE = {"cifar100": 128, "imagenet": 1024}
TRAIN_IMAGES = {"cifar100": 50_000, "imagenet": 1_281_167}
IMAGENET_GPUS = 4
"""Section 3.1: batches of 1024 on four GPUs, each of which computes batch statistics over its own 256 images."""
CHANNEL_MEAN = {"cifar100": (0.5071, 0.4867, 0.4408), "imagenet": (0.485, 0.456, 0.406)}
"""Per channel over the training images, as shares of 255; these and `CHANNEL_STD` are from the published script."""
CHANNEL_STD = {"cifar100": (0.2675, 0.2565, 0.2761), "imagenet": (0.229, 0.224, 0.225)}
COLOR_JITTER = 0.4
"""Largest relative change of brightness, contrast and saturation, from the published script; not in the text."""
RANDAUGMENT_MAGNITUDE = 9
"""Section 3.1 gives no other setting, and the script has no RandAugment: other settings are torchvision's defaults."""
SCRIPT_BATCH_SIZE = {"cifar100": 128, "imagenet": 256}
"""The published script's batch sizes; the one for ImageNet differs from the text's."""
WARMUP_EPOCHS = 10
LONG_EPOCHS = 300
ROBUST_BATCH_SIZES = (256, 512, 1024, 2048)
SCHEDULES = ("cosine", "step", "linear")
STEP_MILESTONES = (30, 60, 80)
"""Epochs out of 90 at which the step schedule multiplies the learning rate by 0.1."""
