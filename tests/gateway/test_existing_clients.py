"""What clients of the existing nanobot send, frame by frame, and what they wait for."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.gateway._client_frames import FrameError, Media
from nanobot.gateway._commands import Command, command_in
from nanobot.gateway._forking import before_user_message
from nanobot.gateway._media import files_from_media
from nanobot.messages import ImagePart
from nanobot.providers import ModelRequest
from nanobot.sessions import SessionSnapshot
from nanobot.testing import Answer, Stall
from tests.gateway.conftest import Stage, open_stage

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)


def data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def uploads_of(stage: Stage) -> list[bytes]:
    """The content of all files that came with messages."""
    folder = Path(stage.bot.runtime.workspace, ".nanobot", "uploads")
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


IMAGE = {"data_url": data_url(PIXEL, "image/png"), "name": "../../shot one.png"}
NOTE = {"data_url": data_url(b"hello from a file", "text/plain"), "name": "note.txt"}


async def test_images_and_files_come_with_a_message() -> None:
    requests: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        requests.append(request)
        return "Seen."

    async with open_stage(answer) as stage, stage.client() as client:
        ready = await client.until("ready")
        said = {"type": "message", "chat_id": ready["chat_id"], "content": "what is this?"}
        await client.say({**said, "media": [IMAGE, NOTE], "turn_id": "t1", "webui": True})
        assert (await client.until("user_message"))["media"] == ["shot_one.png", "note.txt"]
        assert (await client.until("turn_end", turn_id="t1"))["stop_reason"] == "completed"
        await client.say({**said, "content": "", "media": [IMAGE], "turn_id": "t2"})
        await client.until("turn_end", turn_id="t2")
        kept = uploads_of(stage)
    content = requests[0].messages[-1].content
    assert not isinstance(content, str)
    assert any(isinstance(part, ImagePart) for part in content)
    assert "note.txt" in str(content)
    assert sorted(kept) == sorted([PIXEL, b"hello from a file"])  # the image came twice


@pytest.mark.parametrize(
    "media",
    [
        [NOTE] * 21,
        [{"data_url": "https://example.org/x.png"}],
        [{"data_url": "data:text/plain,plain"}],
        [{"data_url": "data:text/plain;base64,%%%"}],
        [{"data_url": "data:text/plain;base64,"}],
        [{"data_url": "data:text/plain;base64," + "A" * (14 * 1024 * 1024)}],
    ],
)
async def test_media_that_cannot_be_taken_are_refused_with_the_whole_message(media: Any) -> None:
    with pytest.raises(FrameError) as refused:
        files_from_media([Media(**one) for one in media], "c")
    assert refused.value.reason == "bad_media"
    async with open_stage() as stage, stage.client() as client:
        ready = await client.until("ready")
        await client.say({"content": "look", "media": media})
        error = await client.until("error")
        assert (error["reason"], error["chat_id"]) == ("bad_media", ready["chat_id"])
        await client.say({"type": "ping"})
        await client.until("pong")
        assert client.of("user_message") == []


async def test_a_fork_begins_as_its_chat_did_and_goes_its_own_way() -> None:
    async with open_stage(lambda request: f"{len(request.messages)}") as stage:
        async with stage.client() as client:
            chat_id = (await client.until("ready"))["chat_id"]
            for text in ("one", "two", "three"):
                await client.say(text)
                await client.until("turn_end")
            fork = {"type": "fork_chat", "source_chat_id": chat_id, "title": "Otherwise"}
            await client.say({**fork, "before_user_index": 2})
            new_id = (await client.until("attached"))["chat_id"]
            stored = stage.bot.sessions.get(f"websocket:{new_id}")
            assert stored is not None
            assert [m["content"] for m in stored.messages if m["role"] == "user"] == ["one", "two"]
            await client.say({"type": "message", "chat_id": new_id, "content": "four"})
            await client.until("turn_end", chat_id=new_id)
            await client.say({"type": "list_chats"})
            rows = {row["chat_id"]: row for row in (await client.until("chats"))["chats"]}
            assert rows[new_id]["title"] == "Otherwise"
            assert rows[new_id]["message_count"] == rows[chat_id]["message_count"] == 6
            await client.say({"type": "fork_chat", "source_chat_id": "nobody"})
            assert (await client.until("error"))["reason"] == "no_such_chat"


def test_a_fork_without_an_index_or_past_the_end_has_everything() -> None:
    messages = [{"role": role} for role in ("user", "assistant", "user", "assistant")]
    assert before_user_message(messages, 0) == []
    assert before_user_message(messages, 1) == messages[:2]
    assert before_user_message(messages, 2) == before_user_message(messages, 9) == messages


async def test_a_temporary_chat_remembers_for_its_connection_alone_and_leaves_nothing() -> None:
    requests: list[str] = []

    def answer(request: ModelRequest) -> str:
        requests.append(" | ".join(str(message.content) for message in request.messages[1:]))
        return f"answer {len(requests)}"

    async with open_stage(answer) as stage:
        async with stage.client() as client, stage.client() as other:
            await client.say({"type": "new_temporary_chat"})
            attached = await client.until("attached")
            assert attached["temporary"] is True
            secret = {"type": "message", "chat_id": attached["chat_id"]}
            await client.say({**secret, "content": "first", "media": [NOTE]})
            await client.until("turn_end")
            await client.say({**secret, "content": "second"})
            await client.until("turn_end")
            assert "first" in requests[1]
            assert "answer 1" in requests[1]
            assert uploads_of(stage) == [b"hello from a file"]
            for frame in (
                {"type": "attach", "chat_id": attached["chat_id"], "history": 10},
                {**secret, "content": "let me in"},
                {"type": "delete_chat", "chat_id": attached["chat_id"]},
                {"type": "discard_temporary_chat", "chat_id": attached["chat_id"]},
            ):
                await other.say(frame)
                assert (await other.until("error"))["reason"] == "no_such_chat"
            await client.say({"type": "discard_temporary_chat", "chat_id": attached["chat_id"]})
            await client.until("chat_deleted")
            assert uploads_of(stage) == []
            await client.say({"type": "new_temporary_chat"})
            attached = await client.until("attached")
            await client.say({**secret, "chat_id": attached["chat_id"], "content": "third"})
            await client.until("turn_end")
            assert "first" not in requests[2]
        while len(stage.gateway.chats) > 2:  # noqa: ASYNC110 - the server sees later that the client has left
            await trio.sleep(0.01)
        assert stage.bot.sessions.list() == []


async def test_a_temporary_chat_in_its_turn_ends_with_its_connection() -> None:
    stalls = Answer("one two", fault=Stall(after_deltas=1))
    async with open_stage(lambda _: stalls) as stage:
        async with stage.client() as client:
            await client.say({"type": "new_temporary_chat"})
            chat_id = (await client.until("attached"))["chat_id"]
            await client.say({"type": "message", "chat_id": chat_id, "content": "go"})
            await client.until("delta")
        while stage.bot.runtime.statistics().live_runs:  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)
        assert stage.gateway.chats.find(chat_id) is None


async def test_the_state_of_the_sidebar_is_told_to_all_and_outlives_the_server() -> None:
    state = {"pinned_keys": ["websocket:a"], "title_overrides": {"websocket:a": "Renamed"}}
    async with open_stage() as stage:
        async with stage.client() as client, stage.client() as other:
            await other.until("ready")
            await client.say({"type": "set_sidebar_state", "state": state})
            for one in (client, other):
                assert (await one.until("sidebar_state_updated"))["state"] == state
            request = {"type": "webui_request", "request_id": "r", "action": "sidebar.update"}
            await client.say({**request, "payload": {"state": {"pinned_keys": []}}})
            response = await client.until("webui_response")
            assert (response["request_id"], response["ok"]) == ("r", True)
            await client.say({**request, "action": "settings.update"})
            assert (await client.until("webui_response"))["error"]["status"] == 404
            await client.say({"type": "set_sidebar_state", "state": {"x": "y" * 300_000}})
            assert (await client.until("error"))["reason"] == "too_long"
    async with open_stage() as stage, stage.client() as client:
        assert (await client.until("sidebar_state_updated"))["state"] == {"pinned_keys": []}


async def test_commands_act_at_once_and_paths_are_for_the_model() -> None:
    stalls = Answer("one two", fault=Stall(after_deltas=1))
    answers = ["A path.", stalls, "Fresh."]
    async with open_stage(answers) as stage, stage.client() as client:
        await client.until("ready")
        await client.say("/usr/bin/python is what?")
        await client.until("turn_end")
        assert client.text() == "A path."
        await client.say("go")
        await client.until("delta")
        await client.say({"content": "/status", "turn_id": "asked"})
        assert "busy" in (await client.until("message", turn_id="asked"))["text"]
        assert (await client.until("turn_end", turn_id="asked"))["stop_reason"] == "command"
        await client.say("/stop")
        await client.until("turn_end", stop_reason="cancelled")
        assert command_in(" /STOP ") == Command("stop")
        assert command_in("/stop the music") is None
        await client.say("/help")
        await client.until("turn_end", stop_reason="command")
        assert "/new" in client.of("message")[-1]["text"]
        await client.say("/new")
        while "new conversation" not in (await client.until("message"))["text"]:
            pass
        assert stage.bot.sessions.list() == []
        await client.say("hello")
        await client.until("turn_end", stop_reason="completed")
        (info,) = stage.bot.sessions.list()
        assert info.message_count == 2


async def test_frames_of_the_existing_client_have_what_it_reads() -> None:
    """`stream_end` has no text: what was streamed is the text. A whole text comes as `message`."""
    async with open_stage() as stage, stage.client("?client_id=web") as client:
        ready = await client.until("ready")
        assert ready["client_id"] == "web"
        for frame in ({"content": "a"}, {"text": "b"}, {"message": "c"}, "d"):
            await client.say(frame)
            end = await client.until("turn_end")
            assert {"chat_id", "turn_id", "latency_ms", "usage"} <= end.keys()
        assert [frame["text"] for frame in client.of("user_message")] == ["a", "b", "c", "d"]
        assert all({"chat_id", "stream_id", "text"} <= frame.keys() for frame in client.of("delta"))
        assert all(not frame["resuming"] for frame in client.of("stream_end"))
        assert all("text" not in frame for frame in client.of("stream_end"))
        await client.say({"type": "attach", "chat_id": "not a chat id"})
        assert (await client.until("error"))["detail"]
        await client.say({"type": "never_heard_of"})
        assert (await client.until("error"))["reason"] == "bad_frame"


async def test_a_message_with_a_name_is_acknowledged_each_time_it_comes_and_taken_in_once() -> None:
    async with open_stage() as stage, stage.client() as client:
        chat_id = (await client.until("ready"))["chat_id"]
        said = {"type": "message", "chat_id": chat_id, "content": "hi", "turn_id": "t1"}
        for _ in range(2):
            await client.say(said)
            accepted = await client.until("message_accepted")
            assert accepted == {"event": "message_accepted", "chat_id": chat_id, "turn_id": "t1"}
        await client.say({"content": "without a name"})
        for _ in range(2):
            await client.until("turn_end")
        assert len(client.of("user_message")) == 2
        assert len(client.of("message_accepted")) == 2


async def test_what_cannot_be_had_here_is_refused_with_what_to_do_instead() -> None:
    async with open_stage() as stage, stage.client() as client:
        scope = {"project_path": "/etc", "access_mode": "full"}
        await client.say({"type": "set_workspace_scope", "chat_id": "c", "workspace_scope": scope})
        error = await client.until("error")
        assert (error["reason"], error["chat_id"]) == ("workspace_scope_rejected", "c")
        assert "agents.defaults.workspace" in error["detail"]
        recording = {"type": "transcribe_audio", "request_id": "r1", "data_url": "data:audio/webm"}
        await client.say({**recording, "duration_ms": 900})
        error = await client.until("transcription_error")
        assert error["request_id"] == "r1"
        assert "tools.mcpServers" in error["detail"]


async def test_a_chat_can_have_another_preset_which_outlives_the_server(home: Path) -> None:
    config = {
        "agents": {"defaults": {"model": "first/m", "provider": "p"}},
        "modelPresets": {"fast": {"model": "second/m", "provider": "p"}},
        "providers": {"p": {"apiKey": "k", "apiBase": "http://127.0.0.1:9/v1"}},
    }
    (home / ".nanobot").mkdir()
    (home / ".nanobot" / "config.json").write_text(json.dumps(config))
    async with open_stage() as stage, stage.client() as client:

        async def ask(text: str) -> str:
            await client.say({"type": "message", "chat_id": "a", "content": text})
            said: str = (await client.until("message"))["text"]
            await client.until("turn_end")
            return said

        assert await ask("/model") == "This chat uses first/m. Presets: `default`, `fast`."
        assert "no preset `none`" in await ask("/model none")
        assert "`fast`" in await ask("/MODEL fast")
        for chat_id in ("a", "b"):
            await client.say({"type": "message", "chat_id": chat_id, "content": "hi"})
            await client.until("turn_end", chat_id=chat_id)
        assert [frame["model"] for frame in client.of("turn_start")] == ["second/m", "first/m"]
        while True:
            kept = stage.bot.sessions.get("websocket:a")
            if kept is not None and kept.metadata:
                break
            await trio.sleep(0.01)  # it is kept behind the turn, if that was quicker
    async with open_stage() as stage, stage.client() as client:
        await client.say({"type": "message", "chat_id": "a", "content": "/status"})
        assert "preset `fast`" in (await client.until("message"))["text"]
        await client.say({"type": "message", "chat_id": "a", "content": "hi"})
        assert (await client.until("turn_start"))["model"] == "second/m"
        await client.until("turn_end", stop_reason="completed")
        await client.say({"type": "message", "chat_id": "a", "content": "/new"})
        await client.until("turn_end", stop_reason="command")
        await client.say({"type": "message", "chat_id": "a", "content": "hi"})
        assert (await client.until("turn_start"))["model"] == "first/m"


async def test_the_last_messages_are_told_in_short_and_temporary_ones_too() -> None:
    async with open_stage(lambda _: "Yes.\n" + "x" * 500) as stage, stage.client() as client:
        for frame in ({"type": "new_chat"}, {"type": "new_temporary_chat"}):
            await client.say(frame)
            said = {"type": "message", "chat_id": (await client.until("attached"))["chat_id"]}
            await client.say({**said, "content": "/history"})
            assert (await client.until("message"))["text"] == "Nothing has been said here."
            await client.say({**said, "content": "one\n\ntwo", "media": [NOTE]})
            await client.until("turn_end", stop_reason="completed")
            await client.say({**said, "content": "/history 2"})
            first, second = (await client.until("message"))["text"].split("\n")
            assert first == "- **You:** one two"
            assert second.startswith("- **nanobot:** Yes. xxx")
            assert len(second) < 250
            await client.say({**said, "content": "/history 1"})
            assert (await client.until("message"))["text"] == second
            await client.until("turn_end")


async def test_a_history_names_files_and_leaves_out_the_turn_under_way_that_has_some() -> None:
    answers = ["Seen.", Answer("one two", fault=Stall(after_deltas=1))]
    async with open_stage(answers) as stage, stage.client() as client, stage.client() as other:
        said = {"type": "message", "chat_id": "c", "content": "look", "media": [IMAGE, NOTE]}
        await client.say({**said, "turn_id": "t1"})
        await client.until("turn_end")
        await client.say({**said, "turn_id": "t2"})
        await client.until("delta", turn_id="t2")
        await other.say({"type": "attach", "chat_id": "c", "history": 10})
        attached = await other.until("attached")
        question, answer = attached["messages"]
        assert (question["content"], question["media"]) == ("look", ["shot_one.png", "note.txt"])
        assert answer["content"] == "Seen."
        assert attached["turns"] == [
            {"turn_id": "t2", "text": "look", "media": ["shot_one.png", "note.txt"]}
        ]


async def test_a_chat_that_is_deleted_while_somebody_attaches_is_followed_all_the_same() -> None:
    async with open_stage() as stage, stage.client() as client, stage.client() as other:
        await other.say({"type": "message", "chat_id": "c", "content": "first"})
        await other.until("turn_end")
        reading, go = threading.Event(), threading.Event()
        get = stage.bot.sessions.get

        def slow_get(session_key: str) -> SessionSnapshot | None:
            reading.set()
            assert go.wait(20)
            return get(session_key)

        stage.bot.sessions.get = slow_get  # type: ignore[method-assign]  # a store that is slow once
        await client.say({"type": "attach", "chat_id": "c", "history": 10})
        await trio.to_thread.run_sync(reading.wait)
        await other.say({"type": "delete_chat", "chat_id": "c"})
        await other.until("chat_deleted")
        go.set()
        assert (await client.until("attached")).get("messages") == []
        await other.say({"type": "message", "chat_id": "c", "content": "second"})
        await client.until("turn_end", chat_id="c")
        assert client.text() == "Hello there."
