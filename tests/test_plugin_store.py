"""The pytest plugin and the store: what is trained for which claims, corrupt records, options, and live progress."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures import live, plugin, session
from replicate import auto, reporting, scales
from replicate.collect import runs_for
from replicate.datasets import fashion
from replicate.engine import devices, local
from replicate.engine.leave import OutOfTime
from replicate.paper.registry import claim
from replicate.runs import Run
from replicate.store import Store, open_store
from replicate.train.contract import TRAINERS
from tests import archives
from tests.faketrainer import fake_result
from tests.verdicts import quick_page

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
SGD = "sgd/rho/resnet50-cifar100"
SMOKE = scales.get("smoke")


@pytest.fixture
def tree(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with this one's plugin and the claims about SGD."""
    monkeypatch.delenv("REPLICATE_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(reporting, "write_page", quick_page)
    pytester.makeconftest('pytest_plugins = ["fixtures.plugin"]')
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --import-mode=importlib\nmarkers = claim(id): judges\n fast: f\n"
    )
    (pytester.path / "claims").mkdir()
    shutil.copy(ROOT / "claims" / "test_sgd.py", pytester.path / "claims")
    return pytester


def run(tree: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", "--scale", "smoke", *arguments)


def fill(store: Store, runs: Sequence[Run]) -> None:
    for r in runs:
        store.put(r, fake_result(r), {"device_model": "a stand-in"})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the runs that are trained, by a stand-in that stores made-up results."""
    keys: list[str] = []

    def ensure(store: Store, runs: Sequence[Run], **arguments: Any) -> None:
        assert arguments.keys() == {"in_process", "trainer", "until"} and not arguments["in_process"]
        if time.monotonic() >= arguments["until"]:
            raise OutOfTime
        trainers.add(arguments["trainer"])
        keys.extend(r.key for r in runs)
        fill(store, runs)

    monkeypatch.setattr(local, "ensure", ensure)
    trainers.clear()
    return keys


trainers: set[str] = set()
"""What the session has asked for to train with."""


def test_only_what_the_selected_claims_lack_is_trained(tree: pytest.Pytester, trained: list[str]) -> None:
    wanted = runs_for([claim(SGD)], SMOKE)
    result = run(tree, "-k", SGD)
    result.stdout.fnmatch_lines([f"replicate: 1 claim selected, runs: {len(wanted)} needed, {len(wanted)} missing, *"])
    assert sorted(trained) == sorted(r.key for r in wanted)
    assert trainers == {TRAINERS["stacked"]}
    trained.clear()
    result = run(tree, "-k", "sgd/rho", "--trainer", "solo")  # the other cell as well
    assert trainers == set(TRAINERS.values())
    both = {r.key for r in runs_for([claim(SGD), claim("sgd/rho/convnext_t-cifar100")], SMOKE)}
    assert set(trained) == both - {r.key for r in wanted}
    trained.clear()
    result = run(tree, "-k", "sgd/rho")
    result.stdout.fnmatch_lines([f"replicate: 2 claims selected, runs: {len(both)} needed, 0 missing"])
    assert trained == []


def test_the_file_says_what_the_verdicts_rest_on(tree: pytest.Pytester, trained: list[str]) -> None:
    run(tree, "-k", SGD)
    data = json.loads((tree.path / ".replicate" / "report" / "verdicts.json").read_text(encoding="utf-8"))
    assert data["trained"] == ["resnet50 on digits"]
    assert data["devices"] == ["a stand-in"]
    assert data["store"]["runs"] == len(trained)
    assert data["store"]["hash"] == open_store(tree.path / ".replicate" / "store").content_hash(trained)
    assert {"python", "torch"} <= data["versions"].keys()


def test_offline_trains_nothing_and_says_what_is_missing(tree: pytest.Pytester, trained: list[str]) -> None:
    n = len(runs_for([claim(SGD)], SMOKE))
    result = run(tree, "-k", SGD, "--offline")
    result.stdout.fnmatch_lines(
        [
            f"not run (1): {n} of its {n} runs are not in the store; --offline trains nothing; to settle: the same*",
            "exit status 0: no claim is contradicted",
        ]
    )
    assert trained == []


def test_a_budget_trains_the_most_claims_first_and_says_what_it_did_not_reach(
    tree: pytest.Pytester, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock moves on with every training: there is time for one of two."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(session, "time", clock)
    monkeypatch.setattr(sys.modules[__name__], "time", clock)
    before = local.ensure

    def ensure(*arguments: Any, **options: Any) -> None:
        before(*arguments, **options)
        now[0] += 60

    monkeypatch.setattr(local, "ensure", ensure)
    result = run(tree, "-k", "sgd/differs or sgd/rho/resnet50", "--budget", "50s")
    cheap, dear = ({r.key for r in runs_for([claim(c)], SMOKE)} for c in (SGD, "sgd/differs"))
    assert set(trained) == cheap
    missing = f"{len(dear - cheap)} of its {len(dear)} runs are not in the store"
    result.stdout.fnmatch_lines([f"not run (1): {missing}; the budget of 50 s is spent; to settle: the same*"])


@pytest.mark.slow
def test_workers_take_the_order_of_a_budget_from_the_controller(tmp_path: Path) -> None:
    """Real workers: without the order they could not sort the claims, or not all alike."""
    open_store(tmp_path / "store")
    command = [sys.executable, "-m", "pytest", "claims", "-n", "2", "-q", "-p", "no:cacheprovider", "--offline"]
    command += ["--scale", "smoke", "--budget", "1s", "-k", "(sgd or slope) and not audit"]
    command += ["--store", str(tmp_path / "store"), "--report", str(tmp_path / "report")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "INTERNALERROR" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not run" in done.stdout


class Item:
    """As much of a test as is sorted."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_closest_marker(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(args=[self.name])


def test_a_worker_sorts_by_what_it_was_told_and_not_by_its_own_store() -> None:
    judging = SimpleNamespace(settings=SimpleNamespace(budget=1.0), in_order=lambda: pytest.fail("asked its own store"))
    told = ["slope/b", "rho/a", "gap/c"]
    config = SimpleNamespace(stash={plugin.JUDGING: judging}, workerinput={plugin.ORDER: told})
    items = [Item(name) for name in sorted(told)]
    plugin.pytest_collection_modifyitems(cast(pytest.Config, config), cast("list[pytest.Item]", items))
    assert [found.name for found in items] == told


def test_a_scale_that_cannot_be_trained_says_so(tree: pytest.Pytester, trained: list[str]) -> None:
    cannot = next(s for s in scales.SCALES.values() if s.why_untrainable and "sgd" in s.variants)
    result = tree.runpytest_inprocess("claims", "-p", "no:cacheprovider", "--scale", cannot.name, "-k", SGD)
    result.stdout.fnmatch_lines([f"not run (1): * runs are not in the store; {cannot.why_untrainable}"])
    assert result.ret == 0
    assert trained == []


@pytest.mark.slow
def test_missing_images_are_not_run_in_one_line(
    tree: pytest.Pytester, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_DATA", "set, to be put back")
    monkeypatch.setattr(fashion, "SYSTEM", tree.path / "nowhere")
    select = ("claims", "-p", "no:cacheprovider", "--scale", "fashion", "-k", SGD, "--data", "images")
    result = tree.runpytest_inprocess(*select)
    result.stdout.fnmatch_lines(
        ["not run (1): * runs are not in the store; fashion: expected *", "exit status 0: no claim is contradicted"]
    )
    file = json.loads((tree.path / ".replicate" / "report" / "verdicts.json").read_text(encoding="utf-8"))
    reason = next(c["reason"] for c in file["claims"] if c["id"] == SGD)
    assert f"of Fashion-MNIST in {tree.path / 'images' / 'fashion-mnist'} or " in reason and "\n" not in reason
    assert trained == []
    archives.fashion(tree.path / "images" / "fashion-mnist", train=2, test=2)
    tree.runpytest_inprocess(*select).stdout.fnmatch_lines(["exit status *"])
    assert len(trained) == len(runs_for([claim(SGD)], scales.get("fashion")))


def test_a_corrupt_record_is_trained_again_and_told(tree: pytest.Pytester, trained: list[str]) -> None:
    store = open_store(tree.path / "store")
    wanted = runs_for([claim(SGD)], SMOKE)
    fill(store, wanted)
    path = store.layout.record(wanted[3].key)
    path.write_bytes(path.read_bytes()[:100])
    result = run(tree, "-k", SGD, "--store", "store")
    assert trained == [wanted[3].key]
    result.stdout.fnmatch_lines([f"store: runs/*/{wanted[3].key}.json is corrupt (*): moved to*"])


def test_the_environment_names_the_store(
    tree: pytest.Pytester, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_STORE", "elsewhere")
    run(tree, "-k", SGD)
    assert (tree.path / "elsewhere" / "store.json").exists()
    run(tree, "-k", SGD, "--store", "typed")  # what is typed wins
    assert (tree.path / "typed" / "store.json").exists()


def test_auto_takes_the_largest_scale_that_can_be_trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cuda_devices", lambda: ())
    assert auto.choose("auto") == (scales.get("embedded"), "auto: no CUDA device is visible")
    monkeypatch.setattr(devices, "cuda_devices", lambda: ("GPU-1",))
    scale, why = auto.choose("auto")
    assert (scale.name == "cifar100") != bool(scales.get("cifar100").why_untrainable)
    assert "a CUDA device is visible" in why


class Terminal(io.StringIO):
    """A terminal's file that remembers what was written."""

    def isatty(self) -> bool:
        return True


class Reporter:
    """As much of pytest's reporter as live progress looks at."""

    class _tw:  # noqa: N801
        _current_line = "claims/test_rho.py RC"


def test_progress_gives_pytests_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(live, "_uncaptured", lambda: terminal)
    monkeypatch.setattr(live.sys, "__stdout__", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    shown = live.Live(open_store(tmp_path / "store"), Reporter())  # type: ignore[arg-type]
    shown._cover()
    assert terminal.getvalue() == "\r" + 21 * " " + "\r"
    with shown.hidden():
        assert terminal.getvalue().endswith("\rclaims/test_rho.py RC")
    with shown.hidden():
        assert terminal.getvalue().count("claims/test_rho.py RC") == 1
    shown.stop()


def test_progress_in_a_log_starts_on_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(live, "_uncaptured", lambda: log)
    monkeypatch.setattr(live.sys, "__stdout__", io.StringIO())
    shown = live.Live(open_store(tmp_path / "store"), Reporter())  # type: ignore[arg-type]
    shown._cover()
    assert log.getvalue() == "\n"
