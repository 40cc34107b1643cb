"""Requests as a chat completions service reads them, byte for byte legal whatever went in."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from nanobot.providers import ModelRequest
from nanobot.providers.openai_chat._encode import (
    encode_body,
    encode_message,
    encode_tools,
    read_images,
)

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16


def sent(message: Message, images: dict[str, str] | None = None) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode_message(message, images).body)
    return decoded


def body(
    request: ModelRequest, *, images: dict[str, str] | None = None, **settings: Any
) -> dict[str, Any]:
    encoded = [encode_message(message, images) for message in request.messages]
    decoded: dict[str, Any] = json.loads(
        encode_body(request, encoded, encode_tools(request.tools), **settings)
    )
    return decoded


def test_each_kind_of_message_has_its_shape() -> None:
    assert sent(SystemMessage("be kind")) == {"role": "system", "content": "be kind"}
    assert sent(UserMessage("hi", media=("x.png",), timestamp="now", metadata={"a": 1})) == {
        "role": "user",
        "content": "hi",
    }
    assert sent(AssistantMessage("hello", reasoning="hm")) == {
        "role": "assistant",
        "content": "hello",
    }
    assert sent(ToolMessage("id1", "read", "text", outcome="error")) == {
        "role": "tool",
        "tool_call_id": "id1",
        "content": "text",
    }


def test_tool_calls_travel_with_what_the_vendor_wants_back_and_null_content() -> None:
    call = ToolCall(
        "id1", "read", '{"path": "ä"}', {"extra_content": {"google": 1}, "id": "forged"}
    )
    assert sent(AssistantMessage(tool_calls=(call,))) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "id1",
                "type": "function",
                "function": {"name": "read", "arguments": '{"path": "ä"}'},
                "extra_content": {"google": 1},
            }
        ],
    }
    assert sent(AssistantMessage("words too", tool_calls=(call,)))["content"] == "words too"


@pytest.mark.parametrize(
    ("written", "legal"),
    [
        ('{"a": [1, {"b": null}]}', '{"a": [1, {"b": null}]}'),
        ("{}", "{}"),
        ("", "{}"),
        ('{"a": 1', "{}"),
        ('{"a": NaN}', "{}"),
        ('{"a": 1} {"b": 2}', "{}"),
        ("[1]", "{}"),
        ("null", "{}"),
        ("rm -rf", "{}"),
        ('{"a": "\ud800"}', "{}"),
        ('{"a":' * 5000, "{}"),
    ],
)
def test_arguments_that_are_not_a_json_object_are_sent_as_an_empty_one(
    written: str, legal: str
) -> None:
    message = sent(AssistantMessage(tool_calls=(ToolCall("id1", "run", written),)))
    assert message["tool_calls"][0]["function"]["arguments"] == legal


async def test_images_are_read_from_disk_and_urls_are_left_alone(tmp_path: Path) -> None:
    by_bytes = tmp_path / "looks-like.txt"
    by_bytes.write_bytes(PNG)
    by_name = tmp_path / "pic ture.svg"
    by_name.write_text("<svg/>")
    sources = {
        str(by_bytes): "data:image/png;base64," + base64.b64encode(PNG).decode(),
        by_name.as_uri(): "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(),
        "https://example.com/a.png": "https://example.com/a.png",
        "data:image/gif;base64,R0lG": "data:image/gif;base64,R0lG",
    }
    parts: tuple[Part, ...] = (TextPart("look"), *map(ImagePart, sources))
    message = UserMessage(parts)
    images = await read_images([message])
    assert set(images) == {str(by_bytes), by_name.as_uri()}
    shown = sent(message, images)["content"]
    assert shown[0] == {"type": "text", "text": "look"}
    assert [part["image_url"]["url"] for part in shown[1:]] == list(sources.values())


async def test_a_media_type_that_was_given_is_kept(tmp_path: Path) -> None:
    picture = tmp_path / "x"
    picture.write_bytes(b"bytes")
    images = await read_images([UserMessage((ImagePart(str(picture), "image/avif"),))])
    assert images[str(picture)].startswith("data:image/avif;base64,")


async def test_an_image_that_is_gone_or_too_large_does_not_spoil_the_history(
    tmp_path: Path,
) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(20 * 1024 * 1024 + 1)
    sources = [str(tmp_path / "gone.png"), str(large), str(tmp_path), "nul\0name", "~nobody-here/x"]
    message = UserMessage(tuple(map(ImagePart, sources)))
    assert await read_images([message]) == {}
    texts = [part["text"] for part in sent(message)["content"]]
    assert texts == [f"[image not available: {source}]" for source in sources]


def test_a_file_is_mentioned_by_its_path() -> None:
    parts = (FilePart("notes/a.pdf", "application/pdf"), FilePart("b"))
    texts = [part["text"] for part in sent(UserMessage(parts))["content"]]
    assert texts == ["[file: notes/a.pdf, application/pdf]", "[file: b]"]


def test_images_of_tool_results_follow_the_last_result_of_the_answer() -> None:
    picture = "https://example.com/shot.png"
    calls = (ToolCall("1", "shoot"), ToolCall("2", "read"))
    history: list[Message] = [
        UserMessage("go"),
        AssistantMessage(tool_calls=calls),
        ToolMessage("1", "shoot", (TextPart("done"), ImagePart(picture))),
        ToolMessage("2", "read", "text"),
        AssistantMessage("seen"),
    ]
    messages = body(ModelRequest("m", history))["messages"]
    assert [message["role"] for message in messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
        "assistant",
    ]
    assert messages[2]["content"] == "done\n[image 1 of this result follows the results]"
    heading, shown = messages[4]["content"]
    assert heading["text"] == "Images from the result of shoot (call 1):"
    assert shown == {"type": "image_url", "image_url": {"url": picture}}
    assert [m["role"] for m in body(ModelRequest("m", history[:3]))["messages"]][-1] == "user"


def test_a_plain_request_asks_for_a_stream_with_token_counts_and_nothing_else() -> None:
    assert body(ModelRequest("m", [UserMessage("hi")])) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_limit_and_tool_is_sent() -> None:
    tool = ToolSpec("read", "Reads.", {"type": "object", "properties": {}})
    request = ModelRequest(
        "m",
        [],
        tools=[tool],
        tool_choice="none",
        max_tokens=5,
        temperature=0.0,
        reasoning_effort="low",
    )
    found = body(request)
    assert found["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "read",
                "description": "Reads.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]
    assert found["tool_choice"] == "none"
    assert (found["max_tokens"], found["temperature"], found["reasoning_effort"]) == (5, 0.0, "low")


def test_quirks_change_what_is_sent() -> None:
    request = ModelRequest("m", [], max_tokens=5)
    quirks = frozenset({"max_completion_tokens", "no_stream_usage"})
    assert body(request, quirks=quirks) == {
        "model": "m",
        "messages": [],
        "max_completion_tokens": 5,
        "stream": True,
    }


def test_extra_body_is_merged_in_last_object_into_object() -> None:
    request = ModelRequest("m", [], extra_body={"a": {"y": 3}, "temperature": 1})
    found = body(request, extra_body={"stream_options": {"x": 1}, "a": {"x": 1, "y": 2}})
    assert found["stream_options"] == {"include_usage": True, "x": 1}
    assert found["a"] == {"x": 1, "y": 3}
    assert found["temperature"] == 1
    assert body(request, extra_body={"messages": "theirs"})["messages"] == "theirs"


def test_half_a_character_anywhere_does_not_stop_a_request() -> None:
    half = "\ud83d"
    joined = "\ud83d\ude00"
    tool = ToolSpec("t", half, {"description": half, half: [half]})
    history: list[Message] = [
        UserMessage(f"a{half}b"),
        UserMessage((TextPart(joined), FilePart(half))),
        AssistantMessage(half, tool_calls=(ToolCall(half, half, "{}"),)),
        ToolMessage(half, "t", half),
    ]
    found = body(ModelRequest(half, history, tools=[tool], extra_body={half: half}))
    assert found["messages"][0]["content"] == "a\ufffdb"
    assert found["messages"][1]["content"][0]["text"] == "\U0001f600"
    assert found["messages"][2]["tool_calls"][0]["id"] == found["messages"][3]["tool_call_id"]


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
messages = st.one_of(
    st.builds(SystemMessage, any_text),
    st.builds(UserMessage, any_text | st.lists(st.builds(TextPart, any_text)).map(tuple)),
    st.builds(
        AssistantMessage,
        any_text,
        st.lists(st.builds(ToolCall, any_text, any_text, any_text), max_size=2).map(tuple),
    ),
    st.builds(ToolMessage, any_text, any_text, any_text),
)


@given(st.lists(messages, max_size=6))
def test_whatever_a_history_holds_the_body_is_legal_json(history: list[Message]) -> None:
    found = body(ModelRequest("m", history))
    assert [message["role"] for message in found["messages"]] == [
        type(message).__name__.removesuffix("Message").lower() for message in history
    ]
    for message in found["messages"]:
        for call in message.get("tool_calls", ()):
            assert isinstance(json.loads(call["function"]["arguments"]), dict)


@given(messages)
def test_the_same_message_gives_the_same_bytes(message: Message) -> None:
    assert encode_message(message) == encode_message(message)
