"""A flow with approvals, in processes that are killed at every step of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nanobot.messages import ToolMessage, check
from nanobot.sessions import SessionRecord, SessionStore
from nanobot.sessions._sqlite import SqliteStore
from tests.sdk.parking_child import key_of


def processes(*plan: tuple[Path, int], store: str = "sqlite") -> list[int]:
    """Run processes of flows, one after the other; returns how each ended, see `parking_child`."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.sdk.parking_child",
            store,
            *(f"{folder}:{deadly}" for folder, deadly in plan),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [int(line) for line in ended.stdout.split()]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def record_in(store: SessionStore, folder: Path) -> SessionRecord:
    """The session of a flow that has ended; closes the store."""
    try:
        assert store.list_slips("turn", key=key_of(folder)) == ()
        record = store.read(key_of(folder))
    finally:
        store.close()
    assert record is not None
    return record


def record_of(folder: Path) -> SessionRecord:
    return record_in(SqliteStore(folder / "sessions.db", durability="fast"), folder)


def check_flow(folder: Path, record: SessionRecord) -> None:
    """Nothing was done twice that must not be, and what is not known is said to be."""
    assert check(record.messages) == ()
    said = [message for message in record.messages if isinstance(message, ToolMessage)]
    effects = lines(folder / "effects")
    assert record.messages[-1].content == "All done."
    assert [message.name for message in said] == ["note", "pay", "mark", "pay"]
    for number, message in enumerate(said):
        times = effects.count(f"{message.name} {number}")
        if message.name == "mark":
            assert times >= 1
            assert message.outcome == "ok"
        else:
            assert times <= 1
            assert message.outcome in ("ok", "interrupted_may_have_run")
            assert message.outcome != "ok" or times == 1
    approved = lines(folder / "approved")
    assert len(approved) == len(set(approved)) <= 2


def has_unknown(record: SessionRecord) -> bool:
    """Whether the model was told of a call that may have been run."""
    return any(
        isinstance(message, ToolMessage) and message.outcome == "interrupted_may_have_run"
        for message in record.messages
    )


def test_the_flow_ends_if_nothing_kills_it(tmp_path: Path) -> None:
    assert processes((tmp_path, 0))[0] > 0
    assert lines(tmp_path / "effects") == ["note 0", "pay 1", "mark 2", "pay 3"]
    check_flow(tmp_path, record_of(tmp_path))


@pytest.mark.slow
def test_killed_at_any_step_each_call_is_run_once_or_said_to_be_unknown(tmp_path: Path) -> None:
    (steps,) = processes((tmp_path / "whole", 0))
    assert steps >= 20
    folders = [tmp_path / str(deadly) for deadly in range(1, steps + 1)]
    plan = [(folder, deadly) for number, folder in enumerate(folders, 1) for deadly in (number, 0)]
    ends = processes(*plan)
    assert ends[::2] == [-signal.SIGKILL] * steps
    assert min(ends[1::2]) >= 0
    unknown = 0
    for folder in folders:
        record = record_of(folder)
        check_flow(folder, record)
        unknown += has_unknown(record)
    assert unknown >= 6  # the steps that lie inside of three calls


@pytest.mark.slow
def test_killed_again_and_again_it_still_ends(tmp_path: Path) -> None:
    for deadly in (5, 7, 9):
        folder = tmp_path / str(deadly)
        ends = processes(*[(folder, deadly)] * 15)
        assert ends[0] == -signal.SIGKILL
        assert ends[-1] >= 0, "it never gets to its end"
        check_flow(folder, record_of(folder))
