"""What a user sees of a session."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from nanobot.messages import AssistantMessage, ImagePart, TextPart, UserMessage
from nanobot.sessions import Position, SessionInfo, SessionRecord, SessionSnapshot, snapshot_of
from nanobot.sessions._snapshot import preview_of, title_of

WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def record() -> SessionRecord:
    return SessionRecord(
        key="user:alice",
        position=Position(1, 2, 3),
        messages=(
            UserMessage(
                "hi", timestamp="noon", metadata={"_runtime_context": "It is noon.", "source": "x"}
            ),
            AssistantMessage("hello", metadata={"latency_ms": 5}),
        ),
        metadata={"title": "Greeting", "tags": ["a"]},
        created_at=WHEN,
        updated_at=WHEN,
    )


def test_a_snapshot_shows_the_plain_messages_and_goes_through_json() -> None:
    snapshot = snapshot_of(record())
    assert json.loads(json.dumps(snapshot.to_dict())) == {
        "key": "user:alice",
        "messages": [
            {"role": "user", "content": "hi", "timestamp": "noon", "source": "x"},
            {"role": "assistant", "content": "hello", "latency_ms": 5},
        ],
        "created_at": "2024-05-06T07:08:09+00:00",
        "updated_at": "2024-05-06T07:08:09+00:00",
        "metadata": {"title": "Greeting", "tags": ["a"]},
        "compaction": None,
    }


def test_changing_a_snapshot_or_its_dict_changes_nothing_else() -> None:
    stored = record()
    snapshot = snapshot_of(stored)
    snapshot.to_dict()["messages"][0]["content"] = "changed"
    snapshot.to_dict()["metadata"]["tags"].append("b")
    assert snapshot.messages[0]["content"] == "hi"
    snapshot.metadata["tags"].append("b")
    snapshot.messages[1]["latency_ms"] = 0
    assert stored == record()


def test_snapshot_and_row_have_slots() -> None:
    assert not hasattr(snapshot_of(record()), "__dict__")
    row = SessionInfo("k", "2024", "2024", "t", "p", 3)
    assert not hasattr(row, "__dict__")
    assert row.to_dict() == {
        "key": "k",
        "created_at": "2024",
        "updated_at": "2024",
        "title": "t",
        "preview": "p",
        "message_count": 3,
    }
    assert SessionSnapshot.__slots__ == (
        "key",
        "messages",
        "created_at",
        "updated_at",
        "metadata",
        "compaction",
    )


def test_a_preview_is_one_line_of_the_first_words_of_the_user() -> None:
    image = UserMessage((ImagePart("/a.png"),))
    words = UserMessage((ImagePart("/a.png"), TextPart(" what\n\tis  this ")))
    assert preview_of([AssistantMessage("hello"), image, words]) == "what is this"
    assert preview_of([AssistantMessage("hello"), image]) == ""
    assert preview_of([UserMessage("x" * 120)]) == "x" * 120
    assert preview_of([UserMessage("x" * 121)]) == "x" * 119 + "…"
    assert len(preview_of([UserMessage("word " * 1_000_000)])) <= 120


def test_a_title_is_text_or_none() -> None:
    assert title_of({"title": "T"}) == "T"
    assert title_of({"title": 5}) == ""
    assert title_of({}) == ""
