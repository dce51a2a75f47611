"""The large scales from made-up images on disk, in the real formats, to verdicts, through pytest and its workers.

pytest ci/test_scales.py takes some minutes on two cores. Models, images and grids are small
(`tests/support/shrunk.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import archives, shrunk

ROOT = Path(__file__).parents[1]


def claims(folder: Path, scale: str, select: str, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output and verdict file of `pytest claims/` with two workers."""
    command = [
        *(
            sys.executable,
            "-m",
            "pytest",
            "claims",
            "-n",
            "2",
            "-q",
            "-p",
            "tests.support.shrunk",
            "-p",
            "no:cacheprovider",
        ),
        *("--store", str(folder / "store"), "--report", str(folder / "report"), "--data", str(folder / "data")),
        *("--scale", scale, "-k", f"({select}) and not audit", *arguments),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    path = folder / "report" / "verdicts.json"
    return done.returncode, done.stdout + done.stderr, json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("scale", "select", "title"),
    [
        ("cifar100", "cifar100", "not the published CIFAR-100"),
        ("cifar100-script", "sgd", "not the published CIFAR-100"),
        ("fashion", "mixer and cifar100", "not the published Fashion-MNIST"),
        ("imagenet", "(vit and imagenet and slope) or 2048", "not the published ImageNet"),
    ],
)
def test_from_archives_to_verdicts(scale: str, select: str, title: str, tmp_path: Path) -> None:
    images = (shrunk.TRAIN_IMAGES, shrunk.TEST_IMAGES)
    {
        "cifar100": archives.cifar100,
        "fashion": archives.fashion,
        "imagenet": lambda folder, train, test: archives.imagenet(folder, train // 3, test // 3),
    }[scale.partition("-")[0]](tmp_path / "data", *images)
    status, output, file = claims(tmp_path, scale, select)
    assert status in (0, 1), output
    judged = [claim for claim in file["claims"] if claim["selected"]]
    assert judged and not [claim["id"] for claim in judged if claim["crashed"] or claim["outcome"] == "not run"], output
    assert file["probe"] and title in output
    assert {claim["evidence"]["note"] for claim in judged if claim["evidence"]["runs"]} == {title}
    assert {claim["evidence"]["probe"] for claim in judged if claim["evidence"]["runs"]} == {True}
    records = [json.loads(path.read_bytes()) for path in (tmp_path / "store" / "runs").rglob("*.json")]
    assert len(records) == file["store"]["runs"] > 0
    checksums = {record["provenance"]["data_checksum"] for record in records}
    assert len(checksums) == 1 and checksums != {None}
    status, output, again = claims(tmp_path, scale, select, "--offline")
    assert [claim["outcome"] for claim in again["claims"]] == [claim["outcome"] for claim in file["claims"]]


def test_without_data_claims_are_not_run(tmp_path: Path) -> None:
    status, output, file = claims(tmp_path, "imagenet", "rho and imagenet")
    assert status == 0, output
    selected = [claim for claim in file["claims"] if claim["selected"]]
    assert {claim["outcome"] for claim in selected} == {"not run"}
    assert all("imagenet: expected train/ and val/" in claim["reason"] for claim in selected)
