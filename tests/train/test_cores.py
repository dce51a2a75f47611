"""How much of a machine is ours: siblings, affinity and quotas, from made-up files of the system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from replicate.train import cores, stream


def test_physical_cores_count_siblings_once_and_respect_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 9}, raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    for cpu in range(8):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    assert cores.physical_cores(tmp_path) == (0, 1, 2, 3, 9)
    monkeypatch.setattr(cores, "cpu_quota", lambda: 2.5)
    assert cores.physical_cores(tmp_path) == (0, 1)
    assert cores.processors() == 2
    monkeypatch.setattr(cores, "cpu_quota", lambda: 0.5)
    assert cores.physical_cores(tmp_path) == (0,)
    assert cores.processors() == 1


@pytest.mark.parametrize(("gpus", "quota", "expected"), [(1, None, 6), (2, None, 3), (1, 2.5, 2), (4, 0.5, 1)])
def test_loaders_share_the_processors_that_a_container_allows(
    monkeypatch: pytest.MonkeyPatch, gpus: int, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 9}, raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert stream.workers_for("cuda:0") == expected
    assert stream.workers_for("cpu") == 0


@pytest.mark.parametrize(
    ("cgroups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2.5),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/host/path\n", {"cpu.max": "300000 100000"}, 3.0),
        ("4:cpu,acct:/x\n", {"cpu,acct/x/cpu.cfs_quota_us": "50000", "cpu,acct/x/cpu.cfs_period_us": "100000"}, 0.5),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
        ("1:memory:/x\n", {}, None),
        ("0::/\n", {"cpu.max": "rubbish"}, None),
    ],
)  # fmt: skip
def test_cpu_quota(tmp_path: Path, cgroups: str, files: dict[str, str], expected: float | None) -> None:
    (tmp_path / "self").write_text(cgroups)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cores.cpu_quota(tmp_path / "self", tmp_path / "mount") == expected
    assert cores.cpu_quota(tmp_path / "nothing", tmp_path / "mount") is None


def test_slots_are_cores_first_and_more_only_on_demand() -> None:
    default = cores.slots()
    assert len(default) == len(cores.physical_cores())
    more = cores.slots(len(default) + 2)
    assert more[: len(default)] == default
    assert [name.partition("-")[2] for name in more[-2:]] == ["extra-0", "extra-1"]
    assert cores.slots(1) == default[:1]
    with pytest.raises(ValueError, match="expected 1 or more, got 0"):
        cores.slots(0)
