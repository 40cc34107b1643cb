"""How long does the command take to say something?

    python benchmarks/cli_start.py            # about 20 s
    python benchmarks/cli_start.py --short    # about 5 s

CPU and wall milliseconds of a fresh process from its start to its end, byte code compiled. The rounds interleave the
subjects; Python itself, which does nothing, stands there for comparison.
"""

from __future__ import annotations

import os
import sys
import time

from benchmarks._harness import COMPILED, parse, report

SUBJECTS = {
    "Python itself": ["-c", "pass"],
    "nanobot --version": ["-m", "nanobot", "--version"],
    "nanobot --help": ["-m", "nanobot", "--help"],
    "nanobot demo --help": ["-m", "nanobot", "demo", "--help"],
}


def run(arguments: list[str]) -> tuple[float, float]:
    """CPU and wall milliseconds of one process; what it says is thrown away."""
    started = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        COMPILED,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(pid, 0)
    assert status == 0, arguments
    wall_ms = (time.perf_counter() - started) * 1000
    return (used.ru_utime + used.ru_stime) * 1000, wall_ms


def main() -> None:
    rounds = 7 if parse(__doc__) else 31
    for arguments in SUBJECTS.values():  # compile, and warm the cache
        run(arguments)
    cpu: dict[str, list[float]] = {subject: [] for subject in SUBJECTS}
    wall: dict[str, list[float]] = {subject: [] for subject in SUBJECTS}
    for _ in range(rounds):
        for subject, arguments in SUBJECTS.items():
            cpu_ms, wall_ms = run(arguments)
            cpu[subject].append(cpu_ms)
            wall[subject].append(wall_ms)
    for subject, figures in cpu.items():
        report("cli_start", subject, figures, "CPU ms")
        report("cli_start", subject, wall[subject], "wall ms")


if __name__ == "__main__":
    main()
