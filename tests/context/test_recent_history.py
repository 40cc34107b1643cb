"""A session is shown the latest entries of the history that concern it, and no more than fits."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nanobot.context import WorkspaceFiles, estimate_text, recent_history, recent_history_tokens
from nanobot.memory import CLEARED, SUMMARY, HistoryEntry, HistoryLog

NOW = "2025-01-02 03:04"


def entry(cursor: int, content: str, key: str | None = None) -> HistoryEntry:
    return HistoryEntry(cursor, NOW, content, key)


def test_entries_of_the_session_and_of_none_are_shown_and_of_others_not() -> None:
    entries = [
        entry(1, "of all"),
        entry(2, "of another", "b"),
        entry(3, "of this", "a"),
        entry(4, "  ", "a"),
    ]
    text = recent_history(entries, "a", limit_tokens=1_000)
    heading, *lines = text.splitlines()
    assert heading.startswith("[notes, from nanobot")
    assert lines == [f"{NOW}: of all", f"{NOW}: of this"]
    assert recent_history(entries[1:2], "a", limit_tokens=1_000) == ""


def test_what_the_summary_says_is_not_said_twice() -> None:
    merged = HistoryEntry(2, NOW, "merged since", "a", kind=SUMMARY)
    entries = [entry(1, "an old fact", "a"), merged, entry(3, "new", "a")]
    text = recent_history(entries, "a", known="notes: an old fact", limit_tokens=1_000)
    assert text.splitlines()[1:] == [f"{NOW}: new"]


def test_a_mark_hides_what_an_older_version_wrote_of_the_session_before_and_nothing_else() -> None:
    entries = [
        entry(1, "of an older version", "a"),
        entry(2, "of another, and older", "b"),
        HistoryEntry(3, NOW, "noted", "a", kind="note"),
        entry(4, "of all"),
        HistoryEntry(5, NOW, "a mark", "a", kind=CLEARED),
        entry(6, "of an older version, since", "a"),
    ]
    shown = recent_history(entries, "a", limit_tokens=1_000).splitlines()[1:]
    assert shown == [f"{NOW}: noted", f"{NOW}: of all", f"{NOW}: of an older version, since"]
    shown = recent_history(entries, "b", limit_tokens=1_000).splitlines()[1:]
    assert shown == [f"{NOW}: of another, and older", f"{NOW}: of all"]


@given(st.lists(st.text(min_size=1, max_size=200), max_size=80), st.integers(0, 500))
def test_the_latest_that_fit_are_shown_without_a_gap(contents: list[str], limit: int) -> None:
    contents = [f"{number} {' '.join(text.split())}" for number, text in enumerate(contents)]
    entries = [entry(number, text) for number, text in enumerate(contents)]
    text = recent_history(entries, "a", limit_tokens=limit)
    lines = text.split("\n")[1:] if text else []
    assert lines == [
        f"{NOW}: {content.strip()}" for content in contents[len(contents) - len(lines) :]
    ]
    assert len(lines) <= 50
    assert estimate_text(text) <= limit or not text


def test_of_many_short_entries_fifty_are_shown() -> None:
    entries = [entry(number, f"n{number}") for number in range(60)]
    lines = recent_history(entries, "a", limit_tokens=4_000).splitlines()[1:]
    assert lines == [f"{NOW}: n{number}" for number in range(10, 60)]


def test_notes_take_a_small_part_of_any_window() -> None:
    assert recent_history_tokens(8_000) == 500
    assert recent_history_tokens(1_000_000) == 4_000


async def test_of_a_long_file_the_end_is_read_and_torn_lines_spoil_nothing(tmp_path: Path) -> None:
    log = HistoryLog(tmp_path / "memory")
    log.append("first", "a")
    with log.path.open("ab") as file:
        file.write(b'{"cursor": 2, "timestamp": "now", "content": "torn')
    log.append("third")
    files = WorkspaceFiles(tmp_path)
    texts = await files.read()
    assert [(kept.cursor, kept.content) for kept in texts.history] == [(1, "first"), (2, "third")]
    line = {"cursor": 3, "timestamp": NOW, "content": "x" * 1_000}
    with log.path.open("ab") as file:
        file.writelines(json.dumps({**line, "cursor": n}).encode() + b"\n" for n in range(3, 203))
    later = (await files.read()).history
    assert later[-1].cursor == 202
    assert 50 < len(later) < 70
    assert [kept.cursor for kept in later] == list(range(203 - len(later), 203))
    log.path.unlink()
    assert (await files.read()).history == ()
