"""The parser of the command line; errors are one line and exit status 2."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any, NoReturn

from replicate import __version__
from replicate.cli.options import REPORT_FILES, STORE, add, store_named
from replicate.text import one_line


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line on standard error that names the command, without the usage text."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_defaults(named=self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but an error on unknown arguments names the subcommand, not only `replicate`."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options.named.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def parser() -> Parser:
    """The parser of all commands. The parsed options have the chosen command's name in `command`."""
    top = Parser(
        prog="replicate",
        description="A paper's claims about AdamW's weight decay, judged from training runs.",
        epilog="Exit status: 0 done, 1 a claim is contradicted or a finding is not consistent, 2 unusable input.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"replicate {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    command = partial(_command, commands)
    plan = command("plan", "Count the runs that a scale needs, how many of them are stored or missing, and their cost.")
    _takes(plan, "--scale", required=True, more="; or auto, the one that pytest chooses here")
    _takes(plan, "--store", "--data", "--measure")
    _takes(plan, "--keep-models", help="also show how many bytes of disk the models of the runs would take")
    _takes(plan, "--json")
    train = command("train", "Train the runs that the store lacks; can be interrupted and run again.")
    _takes(train, "--scale", required=True)
    _takes(train, "--store", "--data", "--engine", "--address", "--trainer", "--processes", "--budget", "--until")
    _takes(train, "--keep-models", "--retrain", "--json")
    watch = command("watch", "Show the progress of training into a store, from any shell or machine.")
    _takes(watch, "--store", "--once")
    _takes(watch, "--scale", help="which scale's runs to watch (default: the one with most runs in the store)")
    _takes(watch, "--json", help="look once and print only JSON on standard output")
    judge = command("judge", "Judge a sweep of your own, from a file or a folder of runs.")
    columns = (
        "a table with learning rate, weight decay and a score: CSV, JSON, Markdown, Parquet, xlsx, an Optuna or MLflow "
        "database, or a folder of runs (docs/sweeps.md); - for standard input"
    )
    judge.add_argument("sweep", metavar="FILE", help=columns)
    _takes(judge, "--metric", "--columns", "--where", "--by", "--ignore", "--take", "--noise", "--at", "--next")
    _takes(judge, "--next-csv", "--picture", "--json")
    judge.add_argument("--html", "--out", metavar="FILE.html", help="also write a page with pictures of the landscapes")
    _runs(command("runs", "List, show, compare, export, delete, record or verify stored runs."))
    fsck = command("fsck", "Check every file of a store; exit status 1 if something is wrong.")
    _takes(fsck, "--store", "--repair", "--json")
    calibrate = command("calibrate", "Measure how often the rules err, on landscapes with known truth.")
    _takes(calibrate, "--landscapes", "--outcomes", "--studies", "--part", "--train")
    _takes(calibrate, "--processes", help="default: one per physical core")
    calibrate.add_argument("--out", metavar="FILE.md", help="write the tables to this file, the numbers to FILE.json")
    _takes(calibrate, "--json")
    synthesize = command("synthesize", "Fill a store with made-up runs of known truth, to see how they are judged.")
    _takes(synthesize, "--world", required=True)
    _takes(synthesize, "--store", "--json")
    _audit(command("audit", "Check a paper's own figures, design and theory by recomputing them; trains nothing."))
    landscapes = command("landscapes", "Show where the best weight decays of a scale's stored runs lie.")
    _takes(landscapes, "--scale", required=True)
    _takes(landscapes, "--variant", "--store", "--json")
    _report(command("report", "Judge claims from stored runs, without training, and write a report; or compare two."))
    return top


def _command(commands: argparse._SubParsersAction[Parser], name: str, summary: str) -> Parser:
    return commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)


def _takes(command: argparse._ActionsContainer, *names: str, **other: Any) -> None:
    """Add the options `names` to `command`; `--store` gets its default: the environment variable, or else `STORE`."""
    for name in names:
        default = {"default": store_named() or STORE} if name == "--store" else {}
        add(command.add_argument, name, **default, **other)


def _runs(command: Parser) -> None:
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    action = partial(actions.add_parser, allow_abbrev=False)
    listing = action("list", help="print one line per run")
    _takes(listing, "--scale", help="only this scale's runs, including those recorded with the source code")
    _takes(listing, "--store", "--json")
    show = action("show", help="show everything stored about one run")
    show.add_argument("key", metavar="KEY", help="a run's key or its first digits")
    compare = action("compare", help="compare two runs field by field, or the runs that two stores share")
    which = "two keys or their first digits; with --other, any number"
    compare.add_argument("keys", metavar="KEY", nargs="*", help=which)
    _takes(compare, "--other")
    for one in (show, compare):
        _takes(one, "--scale", help="also look among the runs recorded for this scale")
        _takes(one, "--store", "--json")
    gc = action("gc", help="list or delete runs that belong to no current scale, and leftovers of ended processes")
    _takes(gc, "--store", "--json")
    _takes(gc.add_mutually_exclusive_group(), "--delete", "--dry-run")
    export = action("export", help="write the runs as a table")
    _takes(export, "--format", "--store")
    export.add_argument("--out", metavar="FILE", help="default: standard output")
    _takes(export, "--scale", help="export this scale's landscapes, one row per point, as `replicate judge` reads them")
    _takes(export, "--variant", help="with --scale: main (default), sgd, batch-256, …")
    record = action("record", help="keep a scale's runs with the source, as evidence for all users")
    _takes(record, "--scale", required=True)
    _takes(record, "--store")
    verify = action("verify", help="train recorded runs again, or evaluate kept models again, and compare")
    which = "keys of the runs, or their first digits (default: a sample)"
    verify.add_argument("keys", metavar="KEY", nargs="*", help=which)
    recorded = verify.add_mutually_exclusive_group(required=True)
    _takes(recorded, "--scale", "--landscape", "--weights")
    _takes(verify, "--store", more="; for --weights")
    _takes(verify, "--sample", "--data", "--json")


def _audit(command: Parser) -> None:
    another = (
        "another paper: a folder with grid.csv (lr, wd), table-1.csv (arch, dataset, rho, …) and optionally "
        "table-2.csv (kappa, dataset, drop, …) and figures.csv (name, value, …); default: the paper of this project"
    )
    command.add_argument("folder", metavar="FOLDER", nargs="?", help=another)
    _takes(command, "--verbose")
    _takes(command, "--picture", help="also draw the grid against the claimed line")
    _takes(command.add_mutually_exclusive_group(), "--json", "--markdown")


def _report(command: Parser) -> None:
    command.add_argument("--out", metavar="DIR", help=f"folder for {REPORT_FILES}; required to judge")
    _takes(command, "--scale", help="which scale's runs to judge (default: the one with most runs in the store)")
    _takes(command, "--how-sure", "--store", "--until", "--picture", "--json")
    actions = command.add_subparsers(dest="action", metavar="compare", parser_class=Parser)
    compare = actions.add_parser("compare", help="show what differs between two verdict files", allow_abbrev=False)
    compare.add_argument("before", metavar="A", help="a verdicts.json, or the folder that holds it")
    compare.add_argument("after", metavar="B", help="the verdicts.json or folder to compare with A")
    _takes(compare, "--json")
