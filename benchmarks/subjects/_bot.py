"""Our own bot, as the subjects use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from _rounds import Load

from nanobot import Nanobot

__all__ = ["bot_for"]


@contextmanager
def bot_for(wanted: Load, store: str = "sqlite") -> Iterator[Nanobot]:
    """A bot in a folder that goes with it; its store, if it is on disk, is safe against the death of the process."""
    with TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        settings = {
            "agents": {"defaults": {"model": "scripted/any"}},
            "providers": {"scripted": {"apiBase": f"{wanted.base_url}/v1"}},
            "sessions": {"store": store, "durability": "fast"},
        }
        config.write_text(json.dumps(settings))
        yield Nanobot.from_config(config, workspace=Path(folder, "workspace"))
