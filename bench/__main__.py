"""The commands; see the package's docstring."""

import argparse
import os
import sys
from pathlib import Path

from bench import report
from bench.harness import load_cases


def main() -> None:
    """Read the command line and do what it says."""
    arguments = _parser().parse_args()
    records = report.load(arguments.file) if arguments.command == "table" else _measure(arguments)
    if arguments.command == "report" and not arguments.quick:  # a smoke test has no results
        path = report.save(records, arguments.into)
        records = report.load(path)
        print(f"written to {path}", file=sys.stderr)  # noqa: T201
    if arguments.command != "run":
        print(report.table(records))  # noqa: T201


def _measure(arguments: argparse.Namespace) -> list[report.Record]:
    records = []
    for case in load_cases(arguments.rows):
        records.append(report.measure(case, quick=arguments.quick, patience=arguments.patience))
        stream = sys.stdout if arguments.command == "run" else sys.stderr
        print(report.details(records[-1]), file=stream, flush=True)
    return records


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Against joblib, rivals and limits.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure rows and show every contender")
    full = commands.add_parser("report", help="measure rows, write a dated JSON and one Markdown table")
    again = commands.add_parser("table", help="the table of an earlier report")
    for command in (run, full):
        command.add_argument("rows", nargs="*", help="like t01; default all")
        command.add_argument(
            "--quick", action="store_true", default="FASTPAR_BENCH_QUICK" in os.environ, help="a smoke test"
        )
        command.add_argument(
            "--patience", type=int, default=1, metavar="N", help="up to N attempts while others use the machine"
        )
    full.add_argument("--into", type=Path, metavar="FILE", help="the JSON to write, or to renew rows of")
    again.add_argument("file", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    main()
