"""The readers of sweeps as targets: each format, folders of runs, databases, and what is typed to part the runs."""

from __future__ import annotations

import gzip
import io
import json
import random
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

from replicate.judging.verdict import OUTCOMES
from tests.support import mutations
from tests.support.guard import Breach, command, sandbox
from tests.support.readers_options import text_of

RUNS: list[dict[str, Any]] = [
    {"lr": lr, "wd": wd, "seed": 0, "acc": 70.5 - abs(i - j)}
    for i, lr in enumerate((0.001, 0.01, 0.1))
    for j, wd in enumerate((0, 0.001, 0.1))
]
CSV = "lr,wd,seed,acc\n" + "".join(f"{r['lr']},{r['wd']},{r['seed']},{r['acc']}\n" for r in RUNS)
PARTED = "lr,wd,seed,val_loss,epochs,state,step\n" + "".join(
    f"{r['lr']},{r['wd']},0,{r['acc']},{epochs},finished,7\n" for r in RUNS for epochs in (2, 4)
)


def sweep(blob: bytes, folder: Path) -> None:
    """A file of any format."""
    (folder / "runs").write_bytes(blob)
    _judged(str(folder / "runs"))


def _judged(path: str, *options: str) -> None:
    _, said = command(["judge", path, "--json", *options])
    for cell in json.loads(said)["cells"] if said else ():
        if not set(cell["verdicts"].values()) <= set(OUTCOMES):
            raise Breach(f"expected verdicts, got {cell['verdicts']}")


def text_seeds() -> list[bytes]:
    """Dialects, Markdown, a pivot, a history, means with their spread, names of runs."""
    header, *rows = CSV.splitlines()
    markdown = ["| " + " | ".join(line.split(",")) + " |" for line in [header, *rows]]
    texts = [
        "# of May\n" + CSV.replace(",", " "),
        "\n".join([markdown[0], "|---|---|---|---|", *markdown[1:]]),
        "lr \\ wd,0,0.001,0.1\n0.001,70%,**71%**,—\n0.01,69 ± 0.1%,71%,72%\n",
        "run,lr,wd,step,val_loss\n"
        + "".join(f"r{i},{r['lr']},{r['wd']},{s},{r['acc'] / s}\n" for i, r in enumerate(RUNS) for s in (1, 2)),
        "lr,wd,acc_mean,acc_std,n\n" + "".join(f"{r['lr']},{r['wd']},{r['acc']},0.3,{i}\n" for i, r in enumerate(RUNS)),
        "name,value,direction\n" + "".join(f"lr{r['lr']}_wd{r['wd']}_s0,{r['acc']},maximize\n" for r in RUNS),
    ]  # fmt: skip
    return [text.encode() for text in texts]


def json_seeds() -> list[bytes]:
    runs = [
        {"name": f"r{i}", "state": "finished", "config": {"lr": {"value": r["lr"]}, "wd": r["wd"]}}
        | {"summary": {"acc": r["acc"]}}
        for i, r in enumerate(RUNS)
    ]
    histories = [
        {"lr": r["lr"], "wd": r["wd"], "history": [{"step": s, "acc": r["acc"]} for s in (1, 2)]} for r in RUNS
    ]
    table = {"columns": list(RUNS[0]), "data": [list(r.values()) for r in RUNS]}
    columns = {key: [r[key] for r in RUNS] for key in RUNS[0]}
    return [json.dumps(one).encode() for one in (RUNS, runs, histories, table, columns, {"runs": RUNS})]


def lines_seeds() -> list[bytes]:
    return ["\n".join(json.dumps(r) for r in RUNS).encode()]


def packed_seeds() -> list[bytes]:
    return [gzip.compress(CSV.encode(), mtime=0), _zip({"runs.csv": CSV})]


def package_seeds() -> list[bytes]:
    """The least that begins like a Parquet file, and a whole workbook."""
    cell = '<c t="inlineStr"><is><t>{}</t></is></c>'
    lines = [[cell.format(value) for value in line.split(",")] for line in CSV.splitlines()]
    rows = "".join(f"<row>{''.join(line)}</row>" for line in lines)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    book = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>',
    }
    return [b"PAR1" + bytes(20) + b"PAR1", _zip(book)]


def _zip(files: dict[str, str]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return held.getvalue()


def zipped(inner: mutations.Mutate) -> mutations.Mutate:
    """Alters one of the files in a zip file; else the bytes themselves."""

    def mutate(blob: bytes, rng: random.Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(blob)) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
        except Exception:  # no zip file any more
            return mutations.flip(blob, rng)
        if not files or rng.random() < 0.3:
            return mutations.flip(blob, rng)
        chosen = rng.choice(sorted(files))
        return _zip({name: (inner(b, rng) if name == chosen else b).decode("latin-1") for name, b in files.items()})

    return mutate


def database_seeds() -> list[bytes]:
    """A study of Optuna, and runs of MLflow."""
    path = sandbox() / "x.db"
    out = []
    optuna = """CREATE TABLE studies (study_id, study_name);
        CREATE TABLE study_directions (direction, study_id, objective);
        CREATE TABLE trials (trial_id, number, study_id, state);
        CREATE TABLE trial_params (trial_id, param_name, param_value, distribution_json);
        CREATE TABLE trial_values (trial_id, objective, value, value_type);
        INSERT INTO studies VALUES (1, 'a'); INSERT INTO study_directions VALUES ('MAXIMIZE', 1, 0);"""
    mlflow = """CREATE TABLE runs (run_uuid, experiment_id, status, lifecycle_stage, start_time);
        CREATE TABLE params (run_uuid, key, value);
        CREATE TABLE latest_metrics (run_uuid, key, value, is_nan);"""
    for i, r in enumerate(RUNS):
        optuna += f"""INSERT INTO trials VALUES ({i}, {i}, 1, 'COMPLETE');
            INSERT INTO trial_params VALUES ({i}, 'lr', {r["lr"]}, '{{}}'), ({i}, 'wd', {r["wd"]}, '{{}}');
            INSERT INTO trial_values VALUES ({i}, 0, {r["acc"]}, 'FINITE');"""
        mlflow += f"""INSERT INTO runs VALUES ({i}, 0, 'FINISHED', 'active', {i});
            INSERT INTO params VALUES ({i}, 'lr', '{r["lr"]}'), ({i}, 'wd', '{r["wd"]}');
            INSERT INTO latest_metrics VALUES ({i}, 'acc', {r["acc"]}, 0);"""
    for script in (optuna, mlflow):
        path.unlink(missing_ok=True)
        made = sqlite3.connect(path)
        made.executescript("PRAGMA page_size = 512;" + script)
        made.close()
        out.append(path.read_bytes())
    return out


def folder(blob: bytes, place: Path) -> None:
    """Files in a folder, from a JSON dictionary of their names and texts."""
    try:
        files = json.loads(blob)
    except (ValueError, RecursionError):
        files = {"runs.csv": text_of(blob)}
    for name, content in files.items() if isinstance(files, dict) else ():
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        path = place / "runs" / "/".join(parts or ["unnamed"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content), errors="replace")
        except (OSError, ValueError):  # a name that no file system takes
            continue
    (place / "runs").mkdir(exist_ok=True)
    _judged(str(place / "runs"))


def folder_seeds() -> list[bytes]:
    """Ray, Hydra, Lightning, MLflow, and one file a run."""
    made: list[dict[str, Any]] = [{} for _ in range(5)]
    ray, hydra, lightning, mlflow, flat = made
    for i, r in enumerate(RUNS):
        ray[f"{i}/params.json"] = {"lr": r["lr"], "wd": r["wd"]}
        ray[f"{i}/result.json"] = {"training_iteration": 1, "mean_accuracy": r["acc"]}
        hydra[f"{i}/.hydra/overrides.yaml"] = f"- lr={r['lr']}\n- wd={r['wd']}\n"
        hydra[f"{i}/results.json"] = {"acc": r["acc"]}
        lightning[f"v{i}/hparams.yaml"] = f"lr: {r['lr']}\nwd: {r['wd']}\n"
        lightning[f"v{i}/metrics.csv"] = f"step,val_acc\n1,\n2,{r['acc']}\n"
        mlflow |= {
            f"0/{i}/meta.yaml": "status: 3\n",
            f"0/{i}/params/lr": str(r["lr"]),
            f"0/{i}/params/wd": str(r["wd"]),
        }
        mlflow[f"0/{i}/metrics/acc"] = f"17 1 1\n18 {r['acc']} 2\n"
        flat[f"lr{r['lr']}_wd{r['wd']}.csv"] = f"acc\n{r['acc']}\n"
    return [json.dumps(one).encode() for one in made]


def parted(blob: bytes, place: Path) -> None:
    """What is typed to part the runs, one option a line."""
    (place / "runs.csv").write_text(PARTED)
    command(
        [
            "judge",
            str(place / "runs.csv"),
            "--json",
            *(line for line in text_of(blob).split("\n") if line.startswith("--")),
        ]
    )
