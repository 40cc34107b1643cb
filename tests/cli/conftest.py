"""Where commands are tried: a HOME of their own without any key, and a scripted model behind a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nanobot.cli import main
from nanobot.providers._catalog import CATALOG

KEY_VARIABLES = tuple(
    variable for entry in CATALOG.values() for variable in (*entry.env_keys, *entry.env_bases)
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh HOME, as right after the installation; child processes inherit it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for variable in (*KEY_VARIABLES, "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(folder)
    return folder


Configure = Callable[..., Path]


@pytest.fixture
def configure(home: Path) -> Configure:
    """Write `~/.nanobot/config.json` with one custom provider, and return its path."""

    def write(base_url: str, *, others: Mapping[str, Any] | None = None, **defaults: Any) -> Path:
        path = home / ".nanobot" / "config.json"
        path.parent.mkdir(exist_ok=True)
        settings = {
            "agents": {"defaults": {"model": "scripted/any", **defaults}},
            "providers": {"scripted": {"apiKey": "canary.0123456789", "apiBase": base_url}},
            **(others or {}),
        }
        path.write_text(json.dumps(settings))
        return path

    return write


Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    """Run a command in this process, without a terminal."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin)

    return run
