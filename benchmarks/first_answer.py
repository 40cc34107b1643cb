"""How long does a new process take to its first answer?

    python benchmarks/first_answer.py            # about half a minute
    python benchmarks/first_answer.py --short    # about 8 s

Wall and CPU milliseconds of a fresh process from its start to its end, byte code compiled, with one turn in it that asks a model
over HTTP and stores the answer: by the SDK without a loop, under asyncio and under Trio, and by `nanobot agent -m`. A process
that asks the model once with `httpx.post` stands there for comparison. The rounds interleave the subjects.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._harness import COMPILED, parse, report
from benchmarks._model import fast_model

OPEN = "import sys; from nanobot import Nanobot; bot = Nanobot.from_config(sys.argv[1])"
MAIN = """
async def main():
    async with bot:
        assert "hello" in (await bot.run("hello")).content
"""
BARE = """import sys, httpx
body = {"model": "any", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
assert "hello" in httpx.post(sys.argv[2] + "/chat/completions", json=body).text
"""
PROGRAMS = {
    "one httpx.post": BARE,
    "no loop": f'{OPEN}\nassert "hello" in bot.run_sync("hello").content\nbot.close()',
    "asyncio": f"import asyncio; {OPEN}{MAIN}asyncio.run(main())",
    "trio": f"import trio; {OPEN}{MAIN}trio.run(main)",
}


def commands(config: str, base_url: str) -> dict[str, list[str]]:
    """What is run, by the name of the subject."""
    found = {
        name: [sys.executable, "-c", program, config, base_url]
        for name, program in PROGRAMS.items()
    }
    found["nanobot agent -m"] = [
        *(sys.executable, "-m", "nanobot", "agent", "--config", config, "-m", "hello"),
    ]
    return found


def run(command: list[str]) -> tuple[float, float]:
    """CPU and wall milliseconds of one process; what it says is thrown away."""
    started = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, COMPILED, file_actions=silent)
    _, status, used = os.wait4(pid, 0)
    assert status == 0, command
    wall_ms = (time.perf_counter() - started) * 1000
    return (used.ru_utime + used.ru_stime) * 1000, wall_ms


def main() -> None:
    rounds = 4 if parse(__doc__) else 21
    with fast_model() as root, TemporaryDirectory() as folder:
        base_url = f"{root}/v1"
        config = Path(folder, "config.json")
        defaults = {"model": "scripted/any", "workspace": f"{folder}/workspace"}
        settings = {
            "agents": {"defaults": defaults},
            "providers": {"scripted": {"apiBase": base_url}},
        }
        config.write_text(json.dumps(settings))
        subjects = commands(str(config), base_url)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
        for number in range(rounds + 1):
            for name, command in subjects.items():
                figures = run(command)
                if number:  # the first round compiles
                    measured[name].append(figures)
    for name, values in measured.items():
        report("first_answer", name, [cpu_ms for cpu_ms, _ in values], "CPU ms")
        report("first_answer", name, [wall_ms for _, wall_ms in values], "wall ms")


if __name__ == "__main__":
    main()
