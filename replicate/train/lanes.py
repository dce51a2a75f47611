"""Lanes: copies of one model with different weights, computed together as one function of stacked tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

NORMALISATION = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)

ALIGNMENT_BYTES = 128
"""Lanes start at multiples of this in memory. Rounding in matrix products may depend on the alignment of the arguments,
and in sums on how many elements remain after the last full vector, so all lanes must be aligned alike."""

Hits = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]


class Lanes:
    """`count` copies of a model, equal at first, that see the same images and do not influence each other.

    `weights` holds the parameters, each a tensor [count, ...]; `statistics` the running means and variances of batch
    normalisation, also [count, ...], which are the only buffers that training changes.
    """

    def __init__(self, model: nn.Module, count: int, compute_dtype: torch.dtype | None = None) -> None:
        """`compute_dtype`: type of matrix products and activations, by default the type of the weights.

        Weights, normalisation, loss and running statistics keep the type of the weights, as under autocast. Unlike
        under autocast, residual connections and all other parameters are rounded, including `pos_embed`, which ViT
        adds, and `gamma`, by which ConvNeXt multiplies. Relative error of the gradients in bf16 at initialisation: ViT
        0.0137 (autocast: 0.0102); ConvNeXt, Mixer, Swin and ResNet at most 0.0005 above autocast.
        """
        self.count = count
        self._plain = copy.deepcopy(model)
        self._template = stackable(copy.deepcopy(model))
        named = dict(model.named_parameters())
        self.names = list(named)
        self._per_lane = _names_in(self._template, (_BatchNorm,), buffers=True)
        self._constants = {k: b for k, b in self._template.named_buffers() if k not in self._per_lane}
        kind = next(iter(named.values())).dtype
        self._dtype = compute_dtype or kind
        self._exact = set(self.names)
        if self._dtype != kind:
            self._exact = _names_in(self._template, NORMALISATION)
            self._constants = {k: b.to(self._dtype) if b.is_floating_point() else b for k, b in self._constants.items()}
            for own in (self._plain, self._template):
                _cast_around(own, kind, self._dtype)
        self._forward = vmap(partial(self._one, self._template), in_dims=(0, 0, None))
        self.start(model)

    def start(self, model: nn.Module) -> None:
        """Set all lanes, in new memory, to the weights and statistics of `model`, which has the same architecture."""
        parameters = [p.detach() for p in model.parameters()]
        self.weights = [side_by_side(self.count, p) for p in parameters]
        self.copies = [
            None if name in self._exact else side_by_side(self.count, p.to(self._dtype))
            for name, p in zip(self.names, parameters, strict=True)
        ]
        """The weights rounded to `compute_dtype`; None for weights that are not rounded."""
        self.leaves = [
            (weights if rounded is None else rounded).detach().requires_grad_()
            for weights, rounded in zip(self.weights, self.copies, strict=True)
        ]
        """The tensors for which gradients are computed: the rounded copy of a weight if it has one, else the weight."""
        buffers = {name: b for name, b in model.named_buffers() if name in self._per_lane}
        # Statistics must be contiguous: vmap updates them in place, but of other tensors it would update a copy.
        self.statistics = {name: b.expand(self.count, *b.shape).clone() for name, b in buffers.items()}

    def round(self) -> None:
        """Recompute `copies`, the rounded weights: needed if anything but a training step has set the weights."""
        for weights, rounded in zip(self.weights, self.copies, strict=True):
            if rounded is not None:
                rounded.copy_(weights)

    def stop(self) -> None:
        """Free the memory of weights and statistics; the lanes can be used again only after `start`."""
        del self.weights, self.copies, self.statistics, self.leaves

    def losses(self, leaves: Sequence[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each lane, with weights `leaves`, over a batch: [count]; updates the statistics."""
        self._template.train()
        logits = self._forward(leaves, self.statistics, images.to(self._dtype))
        return _cross_entropy(logits, labels)

    @torch.no_grad()
    def right(self, batches: Iterable[tuple[Tensor, Tensor]], hits: Hits | None = None) -> Tensor:
        """How many of the images in `batches` each lane classifies correctly: int64 [count].

        `hits`: the method of that name or a compiled version of it, to evaluate all lanes at once. None: evaluate the
        lanes one after the other, which is faster on a CPU: one lane keeps a core busy, with better kernels.
        """
        self._template.eval()
        self._plain.eval()
        leaves = [leaf.detach() for leaf in self.leaves]
        right = torch.zeros(self.count, dtype=torch.int64, device=leaves[0].device)
        for images, y in batches:
            x = images.to(self._dtype)
            if hits is not None:
                right += hits(leaves, x, y)
                continue
            for lane in range(self.count):
                statistics = {name: statistic[lane] for name, statistic in self.statistics.items()}
                logits = self._one(self._plain, [leaf[lane] for leaf in leaves], statistics, x)
                right[lane] += (logits.argmax(1) == y).sum()
        return right

    def hits(self, leaves: Sequence[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """How many of `images`, which have the type `compute_dtype`, each lane classifies correctly: [count]."""
        return (self._forward(leaves, self.statistics, images).argmax(2) == labels).sum(1)

    def finite(self) -> Tensor:
        """Whether every weight and running statistic of a lane is finite: bool [count]."""
        found = torch.ones(self.count, dtype=torch.bool, device=self.weights[0].device)
        for tensor in (*self.weights, *self.statistics.values()):
            # tensor.isfinite() would allocate as many elements again, for which there may be no memory.
            for extreme in torch.aminmax(tensor.flatten(1), dim=1):
                found &= extreme.isfinite()
        return found

    def _one(self, model: nn.Module, leaves: Sequence[Tensor], statistics: dict[str, Tensor], images: Tensor) -> Tensor:
        """Logits of one lane: the function that vmap applies to all lanes."""
        state = {**dict(zip(self.names, leaves, strict=True)), **self._constants, **statistics}
        logits: Tensor = functional_call(model, state, (images,))
        return logits


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch for each lane of `logits` [count, batch, classes], in float32 or float64: [count]."""
    count, batch, _ = logits.shape
    flat = logits.flatten(0, 1)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    each = functional.cross_entropy(flat, labels.repeat(count), reduction="none")
    return each.view(count, batch).mean(1)


class _MeanPool(nn.Module):
    """Average pooling to one pixel: torch's AdaptiveAvgPool2d has no vmap rule for channels-last input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


def stackable(model: nn.Module) -> nn.Module:
    """Change `model` in place so that vmap accepts it: remove operations without a vmap rule, and counters of batches.

    Parameters, statistics and, apart from rounding, outputs stay the same.
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010  timm's switch: the CPU's fused kernel has no vmap rule
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.num_batches_tracked = None  # used only without a momentum
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(module, name, _MeanPool())
    return model


def side_by_side(count: int, tensor: Tensor) -> Tensor:
    """`tensor` repeated in `count` lanes, [count, ...], which lie a multiple of `ALIGNMENT_BYTES` apart."""
    elements = ALIGNMENT_BYTES // tensor.element_size()
    room = tensor.new_zeros(count, -(-tensor.numel() // elements) * elements)
    lanes = room[:, : tensor.numel()].view(count, *tensor.shape)
    lanes.copy_(tensor)
    return lanes


def _names_in(model: nn.Module, kinds: tuple[type[nn.Module], ...], buffers: bool = False) -> set[str]:
    """Names of the parameters, or of the buffers if `buffers`, that modules of `kinds` own."""
    found = set()
    for prefix, module in model.named_modules():
        if isinstance(module, kinds):
            named = module.named_buffers if buffers else module.named_parameters
            found |= {name for name, _ in named(prefix, recurse=False)}
    return found


def _cast_around(model: nn.Module, inner: torch.dtype, outer: torch.dtype) -> None:
    """Make normalisation layers compute in `inner`, between layers that compute in `outer`."""
    for module in model.modules():
        if isinstance(module, NORMALISATION):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(inner), *inputs[1:]))
            module.register_forward_hook(lambda _, inputs, output: output.to(outer))
