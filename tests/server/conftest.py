"""The server needs its extra, and no test may read a real configuration."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME of its own for each test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
