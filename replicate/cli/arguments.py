"""What the command line accepts; errors are one line and exit status 2."""

from __future__ import annotations

import argparse
import os
from typing import Any, NoReturn

from replicate import __version__
from replicate.data.source import DATA_FOLDER, DATA_VARIABLE
from replicate.text import one_line
from replicate.train.contract import STACKED, TRAINERS
from replicate.train.engine.choice import ENGINES, LOCAL

STORE_VARIABLE = "REPLICATE_STORE"
STORE = ".replicate/store"
"""Where the runs are kept unless `--store` or the variable says otherwise: in the current folder."""

SCALE_NAMES = "smoke, embedded (-deep), fashion, cifar100 (-script, -stem32), imagenet (-script) or synthetic"


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, which name the command that was meant."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_defaults(named=self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but the command itself, not `replicate`, says what it cannot use."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options.named.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def parser() -> Parser:
    """The parser of all commands; the chosen one is in `command`."""
    top = Parser(
        prog="replicate",
        description="A paper's claims about AdamW's weight decay, judged from training runs.",
        epilog="Exit status: 0 done, 1 a claim is contradicted or a finding inconsistent, 2 unusable input.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"replicate {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _plan(_command(commands, "plan", "Count the runs that a scale needs, has and lacks, and what they cost."))
    _train(_command(commands, "train", "Train what the store lacks; can be interrupted and run again."))
    _watch(_command(commands, "watch", "Show how the training of a store goes on, from any shell or machine."))
    _judge(_command(commands, "judge", "Judge a sweep of your own, from a CSV file."))
    _runs(_command(commands, "runs", "Look at the stored runs."))
    _fsck(_command(commands, "fsck", "Check every file of a store; exit status 1 where something is wrong."))
    _calibrate(_command(commands, "calibrate", "Tell how often the rules err, on landscapes with known truth."))
    _synthesize(_command(commands, "synthesize", "Fill a store with a made-up world, to see what the suite says."))
    _audit(_command(commands, "audit", "Recompute what a paper's own figures, design and theory say; trains nothing."))
    _landscapes(_command(commands, "landscapes", "Show where the best weight decays of a scale's stored runs lie."))
    _report(_command(commands, "report", "Judge from the store, without training, and write a report; or compare two."))
    return top


def _command(commands: argparse._SubParsersAction[Parser], name: str, summary: str) -> Parser:
    return commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)


def _json(command: argparse._ActionsContainer) -> None:
    command.add_argument("--json", action="store_true", help="print JSON alone on standard output")


def _store(command: Parser) -> None:
    default = os.environ.get(STORE_VARIABLE) or STORE
    command.add_argument(
        "--store",
        metavar="DIR",
        default=default,
        help=f"folder of the stored runs (default: ${STORE_VARIABLE} or {STORE})",
    )


def _scale(command: Parser, optional: str = "") -> None:
    command.add_argument(
        "--scale",
        metavar="SCALE",
        required=not optional,
        help=optional or SCALE_NAMES,
    )


def _data(command: Parser) -> None:
    command.add_argument(
        "--data", metavar="DIR", help=f"folder of the image data sets (default: ${DATA_VARIABLE} or {DATA_FOLDER})"
    )


def _plan(command: Parser) -> None:
    command.add_argument(
        "--scale", metavar="SCALE", required=True, help=f"{SCALE_NAMES}; or auto, the one that pytest takes here"
    )
    _store(command)
    _data(command)
    command.add_argument(
        "--measure", action="store_true",
        help="train a few steps of each architecture on this device to know what a run costs",
    )  # fmt: skip
    _json(command)


def _train(command: Parser) -> None:
    _scale(command)
    _store(command)
    _data(command)
    command.add_argument(
        "--engine", choices=ENGINES, default=LOCAL,
        help="what trains: local (default), the GPUs of this machine, or its cores; ray, those of a Ray cluster",
    )  # fmt: skip
    command.add_argument("--address", metavar="HOST:PORT", help="with --engine ray: which cluster (default: as Ray's)")
    command.add_argument(
        "--trainer", choices=list(TRAINERS), default=STACKED,
        help="stacked (default): many runs in lock-step; solo: one by one in a plain loop",
    )  # fmt: skip
    command.add_argument(
        "--processes", type=_positive, metavar="N", help="stacks at once (default: one a GPU, or a physical core)"
    )
    command.add_argument("--budget", metavar="TIME",
                         help="stop after this time, e.g. 6h or 90m, the most claims for it first")  # fmt: skip
    _json(command)


def _watch(command: Parser) -> None:
    _store(command)
    _scale(command, optional="which scale's runs to watch (default: the one of which the store holds most)")
    command.add_argument("--once", action="store_true", help="look once and end")
    command.add_argument("--json", action="store_true", help="look once and print JSON alone on standard output")


def _judge(command: Parser) -> None:
    command.add_argument(
        "sweep", metavar="LANDSCAPE.csv",
        help="columns lr, wd, accuracy or loss, and optionally seed, arch, dataset; - reads standard input",
    )  # fmt: skip
    command.add_argument("--metric", choices=["accuracy", "loss"], help="what to judge where the file has both")
    command.add_argument(
        "--columns", action="append", default=[], metavar="FIELD=COLUMN,…",
        help="which columns are meant, e.g. lr=config.opt.lr,wd=l2,accuracy=final_top1",
    )  # fmt: skip
    command.add_argument("--html", "--out", metavar="FILE.html", help="also write a page with the landscapes' pictures")
    command.add_argument("--picture", metavar="FILE.svg", help="also write the landscapes' pictures alone")
    _json(command)


def _runs(command: Parser) -> None:
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    listing = actions.add_parser("list", help="one line a run", allow_abbrev=False)
    _scale(listing, optional="only this scale's runs, those that are recorded with the source too")
    _store(listing)
    _json(listing)
    show = actions.add_parser("show", help="all that is stored of one run", allow_abbrev=False)
    show.add_argument("key", metavar="KEY", help="a run's key or its first digits")
    _scale(show, optional="look among the runs recorded for this scale too")
    _store(show)
    _json(show)
    compare = actions.add_parser("compare", help="two runs field by field, or what two stores share",
                                 allow_abbrev=False)  # fmt: skip
    compare.add_argument(
        "keys", metavar="KEY", nargs="*", help="two keys or their first digits; with --other, any number"
    )
    compare.add_argument("--other", metavar="DIR", help="a second store: which of the runs in both differ, by how much")
    _scale(compare, optional="look among the runs recorded for this scale too")
    _store(compare)
    _json(compare)
    gc = actions.add_parser("gc", help="what no scale of today names, and leftovers of processes that are gone",
                            allow_abbrev=False)  # fmt: skip
    _store(gc)
    doing = gc.add_mutually_exclusive_group()
    doing.add_argument("--delete", action="store_true", help="delete it")
    doing.add_argument("--dry-run", action="store_true", help="only say what would go, and how many bytes (default)")
    _json(gc)
    export = actions.add_parser("export", help="the runs as a table", allow_abbrev=False)
    export.add_argument("--format", choices=["csv", "parquet"], default="csv", help="parquet needs pyarrow")
    export.add_argument("--out", metavar="FILE", help="default: standard output")
    _scale(export, optional="export this scale's landscapes, one row a point, ready for `replicate judge`")
    export.add_argument("--variant", default="main", help="with --scale: main (default), sgd, batch-256, …")
    _store(export)
    record = actions.add_parser("record", help="keep a scale's runs with the source, as evidence for anybody",
                                allow_abbrev=False)  # fmt: skip
    _scale(record)
    _store(record)
    verify = actions.add_parser("verify", help="train some recorded runs again and compare", allow_abbrev=False)
    verify.add_argument("keys", metavar="KEY", nargs="*", help="which: their keys, or how these begin (default: some)")
    _scale(verify)
    verify.add_argument("--sample", type=_positive, default=10, metavar="N", help="else how many (default: 10)")
    _data(verify)
    _json(verify)


def _fsck(command: Parser) -> None:
    _store(command)
    command.add_argument(
        "--repair", action="store_true", help="move what cannot be believed, or is left over, to quarantine/"
    )
    _json(command)


def _audit(command: Parser) -> None:
    command.add_argument(
        "folder", metavar="FOLDER", nargs="?",
        help="another paper: a folder with grid.csv (lr, wd), table-1.csv (arch, dataset, rho, …) and, if it has them, "
        "table-2.csv (kappa, dataset, drop, …) and figures.csv (name, value, …); default: the paper of this project",
    )  # fmt: skip
    command.add_argument("--verbose", action="store_true", help="with what each finding assumes and would take")
    command.add_argument("--picture", metavar="FILE.svg", help="also draw the grid against the claimed line")
    form = command.add_mutually_exclusive_group()
    _json(form)
    form.add_argument("--markdown", action="store_true", help="print the whole audit as a Markdown document")


def _landscapes(command: Parser) -> None:
    _scale(command)
    command.add_argument("--variant", default="main", help="main (default), sgd, batch-256, …")
    _store(command)
    _json(command)


def _report(command: Parser) -> None:
    _store(command)
    command.add_argument(
        "--out", metavar="DIR", help="where report.html, verdicts.json, verdicts.md and summary.md go; needed to judge"
    )
    _scale(command, optional="which scale's runs to judge (default: the one of which the store holds most)")
    command.add_argument("--picture", metavar="FILE.svg", help="also write the landscapes' pictures alone")
    _json(command)
    actions = command.add_subparsers(dest="action", metavar="compare", parser_class=Parser)
    compare = actions.add_parser("compare", help="what differs between two verdict files", allow_abbrev=False)
    compare.add_argument("before", metavar="A", help="a verdicts.json, or the folder that holds it")
    compare.add_argument("after", metavar="B", help="another")
    _json(compare)


def _calibrate(command: Parser) -> None:
    command.add_argument("--landscapes", type=_positive, default=400, metavar="N", help="per study (default: 400)")
    command.add_argument("--outcomes", type=_positive, default=100, metavar="N",
                         help="per whole experiment (default: 100)")  # fmt: skip
    command.add_argument("--studies", type=_positive, metavar="N", help="about N of the studies (default: all)")
    command.add_argument("--part", action="append", choices=("cells", "experiments"),
                         help="measure this part alone; --out keeps the other as it was")  # fmt: skip
    command.add_argument("--processes", type=_positive, metavar="N", help="default: one a physical core")
    command.add_argument("--out", metavar="FILE.md", help="write the tables there and the numbers to FILE.json")
    _json(command)


def _synthesize(command: Parser) -> None:
    command.add_argument(
        "--world", required=True, metavar="WORLD",
        help="paper (its claims hold), timescale (decay times learning rate is constant) or noise (nothing matters)",
    )  # fmt: skip
    _store(command)
    _json(command)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value
