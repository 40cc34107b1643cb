"""`nanobot memory`: the notes, in the terminal and in the editor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanobot.cli._instance import Instance

from .conftest import Invoke


def notes(home: Path) -> Path:
    return home / ".nanobot" / "workspace" / "memory" / "MEMORY.md"


def remember(home: Path, text: str) -> None:
    notes(home).parent.mkdir(parents=True)
    notes(home).write_text(text)


def test_with_nothing_remembered_it_says_so(invoke: Invoke) -> None:
    for command in ("show", "history"):
        answer = invoke("memory", command)
        assert (answer.exit_code, answer.stdout) == (0, "")
        assert "yet" in answer.stderr


def test_show_prints_the_notes_as_they_are(invoke: Invoke, home: Path) -> None:
    remember(home, "# Facts\n\n- likes *tea*\n")
    assert invoke("memory", "show").stdout == "# Facts\n\n- likes *tea*\n"


def test_edit_keeps_what_the_editor_saves(
    invoke: Invoke, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(home, "likes tea\n")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/tea/coffee/ "$1"\ntouch -d "+1 minute" "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert invoke("memory", "edit").exit_code == 0
    assert notes(home).read_text() == "likes coffee\n"


def test_edit_without_a_change_writes_nothing(
    invoke: Invoke, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(home, "likes tea\n")
    before = notes(home).stat().st_mtime_ns
    monkeypatch.setenv("VISUAL", "true")
    answer = invoke("memory", "edit")
    assert (answer.exit_code, answer.stderr) == (0, "Nothing was changed.\n")
    assert notes(home).stat().st_mtime_ns == before


def test_edit_does_not_overwrite_what_somebody_else_wrote_meanwhile(
    invoke: Invoke, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(home, "likes tea\n")
    editor = tmp_path / "editor"
    editor.write_text(
        f'#!/bin/sh\necho mine > "$1"\ntouch -d "+1 minute" "$1"\necho theirs > {notes(home)}\n'
    )
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    answer = invoke("memory", "edit")
    assert answer.exit_code == 1
    assert notes(home).read_text() == "theirs\n"


def test_history_is_what_was_noted_oldest_first(invoke: Invoke) -> None:
    with Instance().open_without_model() as bot:
        bot.memory.append_history("The user likes tea.", "mine")
        bot.memory.append_history("And coffee.")
    assert invoke("memory", "history").stdout.split("\n")[1] == "The user likes tea."
    entries = [
        json.loads(line) for line in invoke("memory", "history", "--json").stdout.splitlines()
    ]
    assert [entry["cursor"] for entry in entries] == [1, 2]
    assert "coffee" not in invoke("memory", "history", "-s", "mine").stdout
    assert "tea" not in invoke("memory", "history", "--limit", "1").stdout
