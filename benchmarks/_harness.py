"""What all benchmarks share: a bot, a model service in a process of its own, and one JSON line per figure."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nanobot import Nanobot
from nanobot.providers import Provider

__all__ = [
    "COMPILED",
    "allow_files",
    "bot_at",
    "bot_on",
    "model_service",
    "parse",
    "report",
    "stay_on_first_core",
]

_NO_DISK: Mapping[str, str] = {"store": "memory"}
"""What a disk costs is another question, and has benchmarks of its own: session_store and session_growth."""


COMPILED: Mapping[str, str] = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""The environment of a process that keeps its byte code and finds it the next time. Without, a start is half compilation."""


def parse(doc: str | None) -> bool:
    """Read the command line; returns whether the short mode is wanted, which takes less than 15 s."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="fewer rounds, under 15 s")
    return bool(parser.parse_args().short)


def report(name: str, subject: str, values: Sequence[float], unit: str, **facts: Any) -> None:
    """Print one figure: the median of the values, the least and the most of them, how many there are, and where."""
    line = {
        "name": name,
        "subject": subject,
        "median": round(statistics.median(values), 2),
        "spread": [round(min(values), 2), round(max(values), 2)],
        "n": len(values),
        "unit": unit,
        **facts,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("nanobot-ai", "trio", "httpx")},
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load_1min": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(line), flush=True)


@contextmanager
def bot_at(
    base_url: str,
    sessions: Mapping[str, str] = _NO_DISK,
    *,
    connect_s: float = 10.0,
    **defaults: Any,
) -> Iterator[Nanobot]:
    """A bot whose model is at `base_url`, in a folder that goes with it. The caller closes it.

    `sessions` says where these are kept. `connect_s` is how long a connection may take; the default is that of all bots.
    `defaults` are entries of `agents.defaults`.
    """
    with TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        settings = {
            "agents": {"defaults": {"model": "scripted/any", **defaults}},
            "sessions": dict(sessions),
            "providers": {"scripted": {"apiBase": base_url, "timeouts": {"connectS": connect_s}}},
        }
        config.write_text(json.dumps(settings))
        yield Nanobot.from_config(config, workspace=Path(folder, "workspace"))


@contextmanager
def bot_on(
    provider: Provider, sessions: Mapping[str, str] = _NO_DISK, **defaults: Any
) -> Iterator[Nanobot]:
    """A bot that asks a provider object in this process. The caller closes it.

    `sessions` says where these are kept, `defaults` are entries of `agents.defaults`.
    """
    with TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        settings = {
            "agents": {"defaults": defaults},
            "providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}},
            "sessions": dict(sessions),
        }
        config.write_text(json.dumps(settings))
        yield Nanobot.from_config(
            config, workspace=Path(folder, "workspace"), model="scripted/any", provider=provider
        )


@contextmanager
def model_service(*options: str) -> Iterator[str]:
    """The scripted model service in a child process, so that its CPU is not counted; gives its base URL."""
    command = [sys.executable, "-m", "nanobot.testing.server", "--until-stdin-closes", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.stdin.close()


def allow_files(wanted: int) -> bool:
    """Raise the limit of open files as far as it may be; returns whether so many can be open."""
    try:
        import resource  # deferred: not on Windows
    except ImportError:
        return True
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
    return ceiling >= wanted


def stay_on_first_core() -> None:
    """Leave the other core to the model, if there are two."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
