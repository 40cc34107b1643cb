"""How much CPU does `import nanobot` cost, and `from nanobot import Nanobot`, over Python itself?

    python benchmarks/import_time.py            # about 20 s
    python benchmarks/import_time.py --short    # about 5 s

Each import is timed in a fresh process, with its byte code compiled: CPU milliseconds of the whole process, less the median
of processes that import nothing. The rounds interleave the subjects. `httpx` stands there for comparison.
"""

from __future__ import annotations

import os
import statistics
import sys

from benchmarks._harness import COMPILED, parse, report

SUBJECTS = {
    "Python itself": "pass",
    "import nanobot": "import nanobot",
    "from nanobot import Nanobot": "from nanobot import Nanobot",
    "import trio": "import trio",
    "import httpx": "import httpx",
}


def cpu_ms(statement: str) -> float:
    """CPU of a fresh interpreter that runs one statement, in milliseconds."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", statement], COMPILED)
    _, status, used = os.wait4(pid, 0)
    assert status == 0, statement
    return (used.ru_utime + used.ru_stime) * 1000


def main() -> None:
    rounds = 7 if parse(__doc__) else 31
    for statement in SUBJECTS.values():  # compile, and warm the cache
        cpu_ms(statement)
    measured: dict[str, list[float]] = {subject: [] for subject in SUBJECTS}
    for _ in range(rounds):
        for subject, statement in SUBJECTS.items():
            measured[subject].append(cpu_ms(statement))
    [(bare, bare_ms), *others] = measured.items()
    report("import_time", bare, bare_ms, "CPU ms")
    for subject, values in others:
        over = [value - statistics.median(bare_ms) for value in values]
        report("import_time", subject, over, "CPU ms over Python itself")


if __name__ == "__main__":
    main()
