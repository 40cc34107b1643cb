"""The state of the sidebar: pages can do without, so whatever stands in its place keeps no gateway from starting."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from nanobot.gateway._sidebar import Sidebar
from tests.special_files import any_special_file, make_special

FILE = ".nanobot/sidebar.json"


def state_in(workspace: Path) -> object:
    sidebar = Sidebar(workspace)
    sidebar.read()
    return sidebar.state


def test_where_there_is_none_nobody_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert state_in(tmp_path) == {}
    assert not caplog.records


@any_special_file
def test_what_is_no_file_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    make_special(tmp_path / FILE, kind)
    with caplog.at_level(logging.WARNING, "nanobot.gateway"):
        assert state_in(tmp_path) == {}
    assert "the state of the sidebar cannot be read" in caplog.text


@pytest.mark.parametrize(
    "content",
    [b'{"\xff": 1}', b'{"a": ' + b"[" * 100_000, b"\0", json.dumps({"a": "x" * 300_000}).encode()],
    ids=["not UTF-8", "nested", "NUL", "large"],
)
def test_what_cannot_be_read_is_told_and_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / ".nanobot").mkdir()
    (tmp_path / FILE).write_bytes(content)
    with caplog.at_level(logging.WARNING, "nanobot.gateway"):
        assert state_in(tmp_path) == {}
    assert "the state of the sidebar cannot be read" in caplog.text


def test_a_link_out_of_the_workspace_is_not_followed(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    (workspace / ".nanobot").mkdir(parents=True)
    (tmp_path / "key.json").write_text('{"key": "secret"}')
    (workspace / FILE).symlink_to(tmp_path / "key.json")
    assert state_in(workspace) == {}
