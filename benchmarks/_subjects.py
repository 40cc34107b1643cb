"""Subjects that take turns: each a process that runs a round when it is told to, so that two are measured in one call.

Rounds are interleaved, one of each subject after the other, because a shared machine is faster now and slower then; what is
compared is the ratio within one call. Others have filled the processor's caches meanwhile, so a subject with short rounds has
several, of which the last counts: what is asked is what a turn costs in a process that is at work.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO

from msgspec import Struct

__all__ = ["PEERS", "Figures", "Subject", "measure", "peers_installed"]

FOLDER = Path(__file__).parent
WARM_S = 0.5
"""A round counts if the subject has been at work for so long."""
PEER_FOLDER = FOLDER.parent / ".bench-peers"
TABLES = PEER_FOLDER / "tables-of-tiktoken"
"""What peers count tokens with; see `_install_peers`."""
PEERS = {
    "nanobot-ai 0.2.2": ("nanobot-ai-0.2.2", "peer_nanobot_ai", "nanobot-ai"),
    "nanobot-ai latest": ("nanobot-ai-latest", "peer_nanobot_ai", "nanobot-ai"),
    "openai-agents": ("openai-agents", "peer_openai_agents", "openai-agents"),
    "pydantic-ai": ("pydantic-ai", "peer_pydantic_ai", "pydantic-ai-slim"),
    "langgraph": ("langgraph", "peer_langgraph", "langgraph"),
    "agno": ("agno", "peer_agno", "agno"),
}
"""Agent runtimes of others: the folder of their environment, made by `make bench-peers`, the program that uses them, and the
distribution whose version is told."""


class Subject(Struct, frozen=True):
    """What is measured: its name in reports, its program in subjects/, the Python that runs it."""

    name: str
    program: str
    python: str = sys.executable
    path: str = ""
    """What this subject wishes of the model, as `_model` describes it."""
    checkout: str = ""
    """Another checkout of this project whose code is to be used."""
    rounds: int | None = None
    """It takes part in so many rounds at most."""
    version: str = ""
    """Of a peer: the version that is installed."""

    @property
    def is_peer(self) -> bool:
        """Whether somebody else wrote it."""
        return self.python != sys.executable


class Figures(Struct):
    """What the rounds of one subject took."""

    cpu_us: list[float]
    wall_us: list[float]
    peak_rss_mb: float
    version: str = ""

    @property
    def median_cpu_us(self) -> float:
        """The figure to compare."""
        return statistics.median(self.cpu_us)

    @property
    def median_wall_us(self) -> float:
        """What a turn took by the clock, with all that ran beside it."""
        return statistics.median(self.wall_us)


def peers_installed() -> list[Subject]:
    """The peers whose environments exist, if tiktoken's tables do; says what does not."""
    found = []
    if not (TABLES / "installed").exists():
        print("no peers: the tables of tiktoken are missing: make bench-peers", file=sys.stderr)
        return []
    for name, (folder, program, distribution) in PEERS.items():
        place = PEER_FOLDER / folder
        if (place / "installed").exists():
            packages = [str(path) for path in place.glob("lib/python*/site-packages")]
            [peer] = metadata.distributions(name=distribution, path=packages)
            python = str(place / "bin" / "python")
            found.append(Subject(name, program, python, version=peer.version))
        else:
            print(f"{name} is not installed: make bench-peers", file=sys.stderr)
    return found


def measure(
    subjects: Sequence[Subject],
    base_url: str,
    *,
    sessions: int,
    turns: int,
    rounds: int,
    warm_s: float = WARM_S,
) -> dict[str, Figures]:
    """Run so many rounds of each subject, interleaved, each after rounds of `warm_s` seconds that do not count; returns their
    figures by name. A subject that fails is left out.
    """
    figures: dict[str, Figures] = {}
    with ExitStack() as stack:
        running: dict[Subject, subprocess.Popen[str]] = {}
        for subject in subjects:
            url = f"{base_url}/{subject.path}" if subject.path else base_url
            child = stack.enter_context(_started(subject, url, sessions, turns))
            if _told(child, subject.name) is not None:
                running[subject] = child
        for number in range(rounds):
            for subject, child in tuple(running.items()):
                if subject.rounds is not None and number >= subject.rounds:
                    continue
                line = _warm_round(child, subject.name, warm_s)
                if line is None:
                    del running[subject]
                    continue
                facts = json.loads(line)
                of = figures.setdefault(subject.name, Figures([], [], 0.0, subject.version))
                of.cpu_us.append(facts["cpu_us_per_turn"])
                of.wall_us.append(facts["wall_us_per_turn"])
                of.peak_rss_mb = facts["peak_rss_mb"]
    return figures


def _warm_round(child: subprocess.Popen[str], name: str, warm_s: float) -> str | None:
    """What the last of enough rounds took; None if the subject failed."""
    started = time.monotonic()
    while True:
        _stdin(child).write("go\n")
        _stdin(child).flush()
        line = _told(child, name)
        if line is None or time.monotonic() - started >= warm_s:
            return line


@contextmanager
def _started(
    subject: Subject, base_url: str, sessions: int, turns: int
) -> Iterator[subprocess.Popen[str]]:
    command = [subject.python, str(FOLDER / "subjects" / f"{subject.program}.py")]
    environment = dict(os.environ)
    if subject.is_peer:
        environment.pop("PYTHONPATH", None)  # what is measured there is not our code
        environment["TIKTOKEN_CACHE_DIR"] = str(TABLES)
    elif subject.checkout:
        environment["PYTHONPATH"] = subject.checkout
    with subprocess.Popen(
        [*command, base_url, str(sessions), str(turns)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if subject.is_peer else None,
        text=True,
        env=environment,
    ) as child:
        try:
            yield child
        finally:
            _stdin(child).close()


def _told(child: subprocess.Popen[str], name: str) -> str | None:
    assert child.stdout is not None
    for line in child.stdout:  # a peer may print what it likes in between
        if line.startswith(("{", "ready")):
            return line
    print(f"{name} ended without a figure (exit code {child.wait()})", file=sys.stderr)
    return None


def _stdin(child: subprocess.Popen[str]) -> IO[str]:
    assert child.stdin is not None
    return child.stdin
