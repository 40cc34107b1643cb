"""`nanobot sessions`: look at conversations, take them elsewhere, bring them back, find what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanobot.testing import Answer, scripted_server

from .conftest import Configure, Invoke


@pytest.fixture
def talked(invoke: Invoke, configure: Configure) -> None:
    """Two sessions: one with a tool call, one without."""
    script = [
        Answer(tool_calls=[("list_dir", {"path": "."})]),
        Answer("It is *empty*."),
        Answer("Green, I think."),
    ]
    with scripted_server(script) as server:
        configure(server.base_url)
        assert invoke("agent", "-m", "What is here?", "-s", "first").exit_code == 0
        assert invoke("agent", "-m", "Which colour?", "-s", "second").exit_code == 0


def test_a_fresh_home_has_none(invoke: Invoke) -> None:
    answer = invoke("sessions", "list")
    assert (answer.exit_code, answer.stdout) == (0, "")
    assert invoke("sessions", "list", "--json").stdout == ""


@pytest.mark.usefixtures("talked")
def test_list_is_newest_first(invoke: Invoke) -> None:
    rows = [line.split("\t") for line in invoke("sessions", "list").stdout.splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("second", "2", "Which colour?"),
        ("first", "4", "What is here?"),
    ]
    limited = invoke("sessions", "list", "--json", "--limit", "1").stdout.splitlines()
    assert [json.loads(line)["key"] for line in limited] == ["second"]


@pytest.mark.usefixtures("talked")
def test_show_prints_what_was_said_with_tools_folded(invoke: Invoke) -> None:
    lines = invoke("sessions", "show", "first").stdout.splitlines()
    assert lines[:3] == ["> What is here?", "", "  · list_dir ."]
    assert lines[3].startswith("  → ")
    assert lines[4:] == ["", "It is *empty*."]
    assert json.loads(invoke("sessions", "show", "first", "--json").stdout)["key"] == "first"


@pytest.mark.usefixtures("talked")
def test_a_session_that_is_not_there_is_a_failure(invoke: Invoke) -> None:
    for command in (["show"], ["export"], ["delete", "-y"]):
        answer = invoke("sessions", *command, "third")
        assert answer.exit_code == 1
        assert "There is no session 'third'." in answer.stderr
        assert "nanobot sessions list" in answer.stderr


@pytest.mark.usefixtures("talked")
def test_what_was_exported_comes_back_the_same(invoke: Invoke, home: Path) -> None:
    before = invoke("sessions", "export", "--all").stdout
    assert len(before.splitlines()) == 2
    assert invoke("sessions", "export", "--all", "-o", "all.jsonl").exit_code == 0
    assert (home / "all.jsonl").read_text() == before
    assert invoke("sessions", "delete", "-y", "first", "second").exit_code == 0
    assert invoke("sessions", "list").stdout == ""
    assert invoke("sessions", "import", "all.jsonl").exit_code == 0
    for key in ("first", "second"):
        then, now = (
            next(json.loads(line) for line in text.splitlines() if json.loads(line)["key"] == key)
            for text in (before, invoke("sessions", "export", "--all").stdout)
        )
        assert (then["messages"], then["created_at"]) == (now["messages"], now["created_at"])


def exported(*messages: dict[str, str], **facts: Any) -> str:
    return json.dumps({"messages": messages, **facts}, ensure_ascii=False) + "\n"


def test_any_text_comes_back_also_from_a_file_that_an_editor_has_saved(
    invoke: Invoke, home: Path
) -> None:
    said = {"role": "user", "content": "one\u2028two\u0085three"}
    lines = exported(said, key="a") + exported(said, key="b")
    (home / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode())
    assert invoke("sessions", "import", "x.jsonl").exit_code == 0
    back = invoke("sessions", "export", "b").stdout
    assert json.loads(back)["messages"][0]["content"] == said["content"]


@pytest.mark.parametrize(
    "last",
    [
        exported({"role": "bot", "content": "x"}, key="b"),
        exported(key="a"),
        exported(key=5),
        exported(),
        exported(key="b", created_at="yesterday"),
        exported(key="b", compaction={"through": 1, "summary": "x"}),
    ],
    ids=["message", "twice", "key", "no key", "time", "summary"],
)
def test_of_a_file_with_one_session_that_cannot_be_kept_none_is_taken(
    invoke: Invoke, home: Path, last: str
) -> None:
    (home / "x.jsonl").write_text(exported({"role": "user", "content": "x"}, key="a") + last)
    answer = invoke("sessions", "import", "x.jsonl")
    assert answer.exit_code == 1
    assert "x.jsonl, session 2: " in answer.stderr
    assert invoke("sessions", "list").stdout == ""


@pytest.mark.usefixtures("talked")
def test_import_does_not_replace_unless_it_is_told_to(invoke: Invoke, home: Path) -> None:
    invoke("sessions", "export", "first", "-o", "first.jsonl")
    refused = invoke("sessions", "import", "first.jsonl")
    assert refused.exit_code == 1
    assert "--replace" in refused.stderr
    assert invoke("sessions", "import", "first.jsonl", "-s", "copy").exit_code == 0
    assert invoke("sessions", "import", "first.jsonl", "--replace").exit_code == 0
    shown = invoke("sessions", "show", "copy").stdout
    assert shown == invoke("sessions", "show", "first").stdout


@pytest.mark.parametrize("text", ["", "nonsense", '{"key": "a"}', '[{"messages": []}]'])
def test_a_file_that_is_no_export_is_refused(invoke: Invoke, home: Path, text: str) -> None:
    (home / "x.jsonl").write_text(text)
    answer = invoke("sessions", "import", "x.jsonl")
    assert answer.exit_code == 1
    assert "x.jsonl" in answer.stderr
    assert invoke("sessions", "list").stdout == ""


@pytest.mark.usefixtures("talked")
def test_delete_asks_first(invoke: Invoke) -> None:
    assert invoke("sessions", "delete", "first", stdin="n\n").exit_code == 1
    assert invoke("sessions", "show", "first").exit_code == 0
    assert invoke("sessions", "delete", "first", stdin="y\n").exit_code == 0
    assert invoke("sessions", "show", "first").exit_code == 1


@pytest.mark.usefixtures("talked")
def test_search_finds_what_was_said(invoke: Invoke) -> None:
    assert invoke("sessions", "search", "green").stdout.startswith("second  2 assistant  ")
    hits = invoke("sessions", "search", "colour", "--json").stdout.splitlines()
    assert [json.loads(hit)["key"] for hit in hits] == ["second"]
    nothing = invoke("sessions", "search", "purple")
    assert (nothing.exit_code, nothing.stdout) == (1, "")


@pytest.mark.usefixtures("talked")
def test_migrate_takes_all_sessions_to_postgres_and_says_what_is_there(
    invoke: Invoke, configure: Configure, tmp_path: Path
) -> None:
    from tests.sessions.postgres_server import new_schema  # skips where there is none

    with new_schema() as url:
        configure("http://127.0.0.1:9/v1", others={"sessions": {"url": url}})
        answer = invoke("sessions", "migrate", "--from", "sqlite", "--to", "postgres")
        assert answer.exit_code == 0, answer.output
        assert answer.stdout.startswith(
            "2 copied, 0 there already; 2 sessions with 6 messages, sha256 "
        )
        again = invoke("sessions", "migrate", "--from", "sqlite", "--to", "postgres")
        assert again.stdout.partition(";")[0] == "0 copied, 2 there already"
        assert again.stdout.partition(";")[2] == answer.stdout.partition(";")[2]
        configure("http://127.0.0.1:9/v1", others={"sessions": {"store": "postgres", "url": url}})
        rows = [line.split("\t") for line in invoke("sessions", "list").stdout.splitlines()]
        assert [(row[0], row[1]) for row in rows] == [("second", "2"), ("first", "4")]
        assert invoke("sessions", "delete", "-y", "first").exit_code == 0
        imported = {"key": "first", "messages": [{"role": "user", "content": "another"}]}
        file = tmp_path / "first.json"
        file.write_text(json.dumps(imported))
        assert invoke("sessions", "import", str(file)).exit_code == 0
        refused = invoke("sessions", "migrate", "--from", "sqlite", "--to", "postgres")
        assert refused.exit_code == 1
        assert "1 sessions are in both stores and differ: first." in refused.stderr


@pytest.mark.parametrize("content", [b'{"key": "\xff"}', b"[" * 100_000, b'{"a": \0}'])
def test_a_file_that_nothing_can_read_is_no_exported_session(
    invoke: Invoke, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "sessions.jsonl"
    file.write_bytes(content)
    answer = invoke("sessions", "import", str(file))
    assert answer.exit_code == 1
    assert str(file) in answer.stderr
    assert "no exported session" in answer.stderr
    assert "nanobot sessions export" in answer.stderr


def test_migrate_without_an_address_says_what_to_set(invoke: Invoke, configure: Configure) -> None:
    configure("http://127.0.0.1:9/v1")
    answer = invoke("sessions", "migrate", "--from", "sqlite", "--to", "postgres")
    assert answer.exit_code == 1
    assert "sessions.url" in answer.stderr
    same = invoke("sessions", "migrate", "--from", "sqlite", "--to", "sqlite")
    assert same.exit_code == 2
