"""Run benchmarks one after the other, and show what they found as tables.

    python benchmarks/_run.py                      # what `make bench` runs: each in its short mode; five minutes
    python benchmarks/_run.py --full               # what `make bench-full` runs: all loads, and the peers; 77 minutes
    python benchmarks/_run.py plain_turn bridge    # only these

With `--full`, each benchmark's lines are written to benchmarks/results/, from which the page on performance and its chart are
made. A benchmark that fails is named at the end, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._goals import judged, unmeasured
from benchmarks._results import FOLDER, Line, Results

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("[!_]*.py"))
IN_FULL = {"plain_turn": ["--peers"]}
"""What the whole of a benchmark takes beyond no option at all."""


def run(name: str, options: Sequence[str]) -> tuple[list[Line], int]:
    """Run one benchmark, and say on standard error how it goes; returns its lines and its exit code."""
    waits = sys.stderr.isatty()
    lines: list[Line] = []
    started = time.monotonic()
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        print(f"{name} ...", end="" if waits else "\n", file=sys.stderr, flush=True)
        for text in process.stdout:
            lines.append(json.loads(text))
            if waits:
                print(f"\r{name} ... {len(lines)} figures", end="", file=sys.stderr, flush=True)
    took = f"{name}: {len(lines)} figures in {time.monotonic() - started:.0f} s"
    print(f"\r{took}" if waits else took, file=sys.stderr, flush=True)
    return lines, process.returncode


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines; the first row is the heading, the last two columns are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in [rows[0], ["-" * width for width in widths], *rows[1:]]:
        cells = [
            cell.rjust(width) if place >= len(widths) - 2 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def figures(lines: Sequence[Line]) -> Iterator[str]:
    """All figures, benchmark by benchmark."""
    rows = [["benchmark", "subject", "unit", "median", "least … most"]]
    for line in lines:
        at_once = line.get("sessions") or line.get("streams")
        subject = line["subject"] if at_once is None else f"{line['subject']} ({at_once:,} at once)"
        least, most = line["spread"]
        rows.append(
            [line["name"], subject, line["unit"], f"{line['median']:,}", f"{least:,} … {most:,}"]
        )
    yield from table(rows)


def goals(results: Results, *, full: bool) -> Iterator[str]:
    """The goals that these results tell of, and after a full run those that they should tell of."""
    rows = [["goal", "", "", "wanted", "measured"]]
    says = {True: "met", False: "NOT MET", None: "-"}
    for one in judged(results):
        goal = one.goal
        rows.append([goal.question, goal.text, says[one.met], goal.wanted, one.measured])
    if full:
        rows += [[g.question, g.text, "-", g.wanted, "NOT MEASURED"] for g in unmeasured(results)]
    yield from table(rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--full", action="store_true", help="all loads; writes the results")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark: {', '.join(unknown)}")
    found: list[Line] = []
    failed = []
    for name in options.names or NAMES:
        lines, code = run(name, IN_FULL.get(name, []) if options.full else ["--short"])
        found += lines
        if code:
            failed.append(name)
        elif options.full:
            FOLDER.mkdir(exist_ok=True)
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (FOLDER / f"{name}.jsonl").write_text(text, "utf-8")
    results = Results.of_folder() if options.full else Results(found)
    print(*figures(found), "", *goals(results, full=options.full), sep="\n")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
