"""Trained models in the store: written to files with a checksum, read back as modules, and evaluated again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from replicate.data import catalogue
from replicate.runs.result import Result
from replicate.runs.run import ModelSpec, Run
from replicate.store import model_file, provenance
from replicate.store import store as stores
from replicate.store.record import StoredRun, content_of, run_from_record
from replicate.store.store import Store, StoreError
from replicate.text import one_line
from replicate.train import inputs, models, setting, solo
from replicate.train.lanes import Lanes

State = Mapping[str, Tensor]
"""Name → tensor, as in `nn.Module.state_dict`."""


class ModelStore(Store):
    """A store, opened read-only, that can also load the models kept in it."""

    def model(self, run: Run | StoredRun | str) -> nn.Module:
        """The timm module of `run` with its weights after training, on the CPU, in evaluation mode.

        `run`: a run, its record in the store, or its key. Raises StoreError if the run's model was not kept or its file
        is damaged.
        """
        return load(self, run if isinstance(run, str) else run.key)


def open_store(path: str | os.PathLike[str]) -> ModelStore:
    """Open the store at `path` read-only, with its models. Raises StoreError if there is no store."""
    found = stores.open_store(Path(path), create=False, read_only=True)
    return ModelStore(found.path, read_only=True)


def sealed(run: Run, result: Result, state: State) -> bytes:
    """The contents of the file that keeps `state`, the weights and buffers of `run` after training to `result`."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    return model_file.seal(safetensors.save(tensors, model_file.labels(run.key, content_of(run, result))))


def load(store: Store, key: str) -> nn.Module:
    """The kept module of the run with this `key`, on the CPU, in evaluation mode.

    Raises StoreError if the model was not kept, or its file is damaged or does not fit the architecture of the run.
    """
    blob = store.model_file(key)
    stored = store.read(key)
    assert stored is not None
    try:
        run = run_from_record(stored.run)
    except ValueError as error:
        raise StoreError(f"run {key}: {error}; read its model with the version that trained it") from error
    model = models.of_run(run)
    try:
        model.load_state_dict(safetensors.load(blob))
    except (SafetensorError, RuntimeError) as error:
        raise StoreError(one_line(f"run {key}: expected weights of {run.arch} in its model file: {error}")) from error
    return model.eval()


def evaluated(store: Store, stored: StoredRun) -> tuple[float, dict[str, Any]]:
    """Evaluate the kept model of `stored` again; returns the test accuracy in percent and this evaluation's provenance.

    Uses a GPU if the run was trained on a GPU and one is available. Raises StoreError as `load` does.
    """
    model = load(store, stored.key)
    run = run_from_record(stored.run)
    device = "cpu" if stored.provenance.get("device") == "cpu" or not torch.cuda.is_available() else "cuda:0"
    catalogue.prepare(run.data)
    found = accuracy_pp(run, model, str(stored.provenance.get("trainer")), device)
    return found, provenance.collect(run, device, 0.0, {})


def bytes_of(runs: Sequence[Run]) -> int:
    """Bytes that the models of `runs` take on disk, without the headers of the files, which are negligible."""
    known: dict[tuple[ModelSpec, object], int] = {}
    total = 0
    for run in runs:
        kind = run.model, run.data
        if kind not in known:
            known[kind] = sum(t.numel() * t.element_size() for t in models.of_run(run).state_dict().values())
        total += known[kind]
    return total


def accuracy_pp(run: Run, model: nn.Module, trainer: str, device: str) -> float:
    """Test accuracy of `model` in percent, computed as `trainer` did after the last step.

    On a CPU it is the same number as then. On a GPU, where a stack evaluates all models at once, rounding may differ.
    """
    with setting.reproducible(device):
        shown = inputs.open_inputs(run, device)
        if trainer != "stacked":
            model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            with setting.passes(run, device):
                return solo.accuracy_pp(model, shown)
        lanes = Lanes(model.to(device), 1, setting.compute_dtype(run))
        batches = list(shown.test_batches(setting.EVALUATION_BATCH))
        return 100 * int(lanes.right(batches)[0]) / sum(len(labels) for _, labels in batches)
