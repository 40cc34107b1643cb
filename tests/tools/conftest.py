"""A workspace of its own for every test, and the context of a run in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanobot.tools import RunContext, Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the workspace; what lies beside it is outside."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def context(root: Path) -> RunContext:
    return RunContext(confined=Workspace(root), session_key="user:alice")
