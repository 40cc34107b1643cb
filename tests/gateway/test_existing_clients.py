"""What clients of the existing nanobot send, frame by frame, and what they wait for."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.gateway._client_frames import FrameError, Media
from nanobot.gateway._commands import command_in
from nanobot.gateway._forking import before_user_message
from nanobot.gateway._media import files_from_media
from nanobot.messages import ImagePart
from nanobot.providers import ModelRequest
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
        [NOTE] * 5,
        [{"data_url": "https://example.org/x.png"}],
        [{"data_url": "data:text/plain,plain"}],
        [{"data_url": "data:text/plain;base64,%%%"}],
        [{"data_url": "data:text/plain;base64,"}],
        [{"data_url": "data:text/plain;base64," + "A" * (9 * 1024 * 1024)}],
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
        for name in ("new", "stop", "status", "help"):
            assert command_in(f" /{name.upper()} ") == name
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
        await client.say({"type": "attach", "chat_id": "not a chat id"})
        assert (await client.until("error"))["detail"]
        await client.say({"type": "never_heard_of"})
        assert (await client.until("error"))["reason"] == "bad_frame"
