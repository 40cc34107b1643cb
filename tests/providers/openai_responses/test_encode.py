"""Requests as a Responses service reads them: legal whatever went in."""

from __future__ import annotations

import base64
import json
import re
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
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
    repair,
)
from nanobot.providers import ModelRequest
from nanobot.providers._images import EncodedImage, read_images
from nanobot.providers.openai_responses._encode import encode_body, encode_message, encode_tools

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
READ = ToolSpec("read", "Reads.", {"type": "object", "properties": {}})


def body(
    request: ModelRequest,
    *,
    images: dict[str, EncodedImage] | None = None,
    extra_body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    encoded = encode_body(
        request,
        [encode_message(message, images, provider="acme") for message in request.messages],
        encode_tools(request.tools),
        extra_body=extra_body,
    )
    decoded: dict[str, Any] = json.loads(encoded)
    return decoded


def items(*history: Message, **settings: Any) -> list[Any]:
    found: list[Any] = body(ModelRequest("m", history), **settings)["input"]
    return found


def message(role: str, text: str) -> dict[str, Any]:
    content = text if role == "assistant" else [{"type": "input_text", "text": text}]
    return {"type": "message", "role": role, "content": content}


# Shapes ---------------------------------------------------------------------------------------


def test_a_plain_request_stores_nothing_and_asks_for_nothing_else() -> None:
    assert body(ModelRequest("m", [UserMessage("hi")])) == {
        "model": "m",
        "input": [message("user", "hi")],
        "store": False,
        "stream": True,
    }


def test_every_limit_and_tool_is_sent() -> None:
    found = body(
        ModelRequest(
            "m",
            [UserMessage("hi")],
            tools=[READ],
            tool_choice="none",
            max_tokens=500,
            temperature=0.0,
            reasoning_effort="low",
        )
    )
    assert found["tools"] == [
        {
            "type": "function",
            "name": "read",
            "description": "Reads.",
            "parameters": READ.parameters,
            "strict": False,
        }
    ]
    assert (found["tool_choice"], found["max_output_tokens"]) == ("none", 500)
    assert found["temperature"] == 0.0
    assert found["reasoning"] == {"effort": "low", "summary": "auto"}
    assert found["include"] == ["reasoning.encrypted_content"]
    assert body(ModelRequest("m", [], max_tokens=1))["max_output_tokens"] == 16


@pytest.mark.parametrize(
    ("model", "effort", "reasoning", "encrypted"),
    [
        ("gpt-5", None, None, True),
        ("gpt-5", "high", {"effort": "high", "summary": "auto"}, True),
        ("gpt-5", "none", {"effort": "none"}, True),
        ("gpt-6.2-sol", "none", {"effort": "low", "summary": "auto"}, True),
        ("gpt-5", "adaptive", {"summary": "auto"}, True),
        ("gpt-4.1", "high", None, False),
        ("gpt-4.1", None, None, False),
        ("my-deployment", None, None, False),
        ("my-deployment", "none", {"effort": "none"}, False),
        ("my-deployment", "high", {"effort": "high", "summary": "auto"}, True),
        ("deepseek-reasoner", "high", None, True),
    ],
)
def test_reasoning_is_asked_for_as_the_model_knows_it(
    model: str, effort: str | None, reasoning: dict[str, str] | None, encrypted: bool
) -> None:
    found = body(ModelRequest(model, [], reasoning_effort=effort))
    assert found.get("reasoning") == reasoning
    assert ("include" in found) == encrypted


def test_a_model_that_refuses_a_temperature_gets_none() -> None:
    for model in ("gpt-5", "gpt-9-astra"):  # one that is not known is taken for a new one
        assert "temperature" not in body(ModelRequest(model, [], temperature=0.1))
    assert body(ModelRequest("gpt-4.1", [], temperature=0.1))["temperature"] == 0.1


def test_the_first_system_messages_are_instructions_and_a_later_one_keeps_its_place() -> None:
    found = body(
        ModelRequest(
            "m", [SystemMessage("a"), SystemMessage("b"), UserMessage("hi"), SystemMessage("c")]
        )
    )
    assert found["instructions"] == "a\n\nb"
    assert found["input"] == [message("user", "hi"), message("system", "c")]


def test_an_answer_is_its_text_and_its_calls() -> None:
    calls = (ToolCall("1", "read", '{"path": "ä"}'), ToolCall("2", "read", "nonsense"))
    assert items(
        AssistantMessage("Look.", calls), ToolMessage("1", "read", "x", outcome="error")
    ) == [
        message("assistant", "Look."),
        {"type": "function_call", "call_id": "1", "name": "read", "arguments": '{"path": "ä"}'},
        {"type": "function_call", "call_id": "2", "name": "read", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
    ]


@pytest.mark.parametrize("call_id", ["", "x" * 65, "läuft", "a b", "\ud800"])
def test_ids_from_elsewhere_are_made_to_fit_and_still_join_call_and_result(call_id: str) -> None:
    call, result = items(
        AssistantMessage(tool_calls=(ToolCall(call_id, "run"),)), ToolMessage(call_id, "run", "x")
    )
    assert call["call_id"] == result["call_id"]
    assert re.fullmatch(r"[!-~]{1,64}", call["call_id"])


def test_ids_that_fit_stay_as_they_are() -> None:
    (call,) = items(AssistantMessage(tool_calls=(ToolCall("functions.read:0", "run"),)))
    assert call["call_id"] == "functions.read:0"


def test_a_tool_that_there_cannot_be_is_called_by_a_name_that_there_can_be() -> None:
    (call,) = items(AssistantMessage(tool_calls=(ToolCall("1", "read file"),)))
    assert call["name"] == "read_file"


async def test_images_go_along_in_messages_and_in_results(tmp_path: Path) -> None:
    picture = tmp_path / "a"
    picture.write_bytes(PNG)
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    sources = {
        str(picture): url,
        "https://example.com/a.png": "https://example.com/a.png",
        "data:image/png;base64,AAAA": "data:image/png;base64,AAAA",
    }
    parts: tuple[Part, ...] = (*map(ImagePart, sources), TextPart("look"), FilePart("a.pdf"))
    history: list[Message] = [
        UserMessage(parts),
        AssistantMessage(tool_calls=(ToolCall("1", "shoot"),)),
        ToolMessage("1", "shoot", (TextPart("taken"), ImagePart(str(picture)))),
    ]
    said, _, result = items(*history, images=await read_images(history))
    shown = [{"type": "input_image", "image_url": at, "detail": "auto"} for at in sources.values()]
    assert said["content"] == [
        *shown,
        {"type": "input_text", "text": "look"},
        {"type": "input_text", "text": "[file: a.pdf]"},
    ]
    assert result["output"] == [{"type": "input_text", "text": "taken"}, shown[0]]


def test_a_result_of_texts_is_one_text() -> None:
    result = ToolMessage("1", "read", (TextPart("a"), ImagePart("/gone.png"), FilePart("b")))
    (found,) = items(result)
    assert found["output"] == "a\n[image not available: /gone.png]\n[file: b]"


# Reasoning ------------------------------------------------------------------------------------


def thought(said: str, **payload: Any) -> ThinkingBlock:
    return ThinkingBlock(
        "reasoning", said, payload={"encrypted_content": f"{said}!", "provider": "acme", **payload}
    )


def test_reasoning_goes_back_to_the_provider_it_is_from_and_to_no_other() -> None:
    blocks = (
        thought("ours", id="rs_1"),
        thought(""),
        ThinkingBlock("reasoning", "in the open", payload={"id": "rs_2", "provider": "acme"}),
        ThinkingBlock("reasoning", "", payload={"id": "rs_3", "provider": "acme"}),
        ThinkingBlock("reasoning", "theirs", payload={"encrypted_content": "x", "provider": "b"}),
        ThinkingBlock("thinking", "hm", "sig"),
    )
    assert items(AssistantMessage("said", thinking=blocks)) == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "ours"}],
            "encrypted_content": "ours!",
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "!"},
        {
            "type": "reasoning",
            "id": "rs_2",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "in the open"}],
        },
        message("assistant", "said"),
    ]


def test_reasoning_stays_in_front_of_what_it_led_to() -> None:
    answer = AssistantMessage(
        "I will look.",
        (ToolCall("1", "read"), ToolCall("2", "read")),
        thinking=(
            thought("a"),
            thought("b", text_before=12),
            thought("c", text_before=12, calls_before=1),
        ),
    )
    kinds = [item.get("encrypted_content") or item["type"] for item in items(answer)]
    assert kinds == ["a!", "message", "b!", "function_call", "c!", "function_call"]


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    answer = AssistantMessage("Until", thinking=(thought("a", text_before=5),), interrupted=True)
    assert items(answer) == [message("assistant", "Until")]
    assert items(AssistantMessage(thinking=(thought("a"),))) == []


# All of it ------------------------------------------------------------------------------------


def test_extra_body_is_merged_in_last_object_into_object() -> None:
    request = ModelRequest(
        "gpt-5", [], reasoning_effort="high", extra_body={"reasoning": {"summary": None}, "a": 1}
    )
    found = body(request, extra_body={"a": 2, "service_tier": "flex"})
    assert found["reasoning"] == {"effort": "high", "summary": None}
    assert (found["a"], found["service_tier"]) == (1, "flex")


def test_half_a_character_anywhere_does_not_stop_a_request() -> None:
    half = "\ud83d"
    history: list[Message] = [
        SystemMessage(half),
        UserMessage(f"a{half}b"),
        UserMessage((TextPart("\ud83d\ude00"), FilePart(half), ImagePart(half))),
        AssistantMessage(half, (ToolCall(half, half),), thinking=(thought(half),)),
        ToolMessage(half, "t", half),
    ]
    tool = ToolSpec("t", half, {"description": half, half: [half]})
    found = body(ModelRequest(half, history, tools=[tool], extra_body={half: half}))
    assert found["input"][0]["content"][0]["text"] == "a\ufffdb"
    assert found["input"][1]["content"][0]["text"] == "\U0001f600"


def check_legal(found: dict[str, Any]) -> None:
    """What the service is documented to refuse, or was seen to."""
    open_calls: list[str] = []
    previous = ""
    for item in found["input"]:
        kind = item["type"]
        if kind == "function_call_output":
            assert item["call_id"] in open_calls, "a result without its call"
            open_calls.remove(item["call_id"])
        elif kind == "function_call":
            assert isinstance(json.loads(item["arguments"]), dict)
            assert re.fullmatch(r"[!-~]{1,64}", item["call_id"])
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", item["name"])
            open_calls.append(item["call_id"])
        elif kind == "message" and item["role"] != "assistant":
            assert not open_calls, "a call without its result"
        if previous == "reasoning":
            assert kind in ("reasoning", "function_call") or item["role"] == "assistant"
        previous = kind
    assert previous != "reasoning"
    assert not open_calls


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)
parts = st.one_of(
    st.builds(TextPart, any_text),
    st.builds(FilePart, any_text),
    st.builds(ImagePart, any_text | st.just("data:image/png;base64,AAAA")),
)
contents = any_text | st.lists(parts, max_size=3).map(tuple)
thoughts = st.builds(
    ThinkingBlock,
    st.sampled_from(["thinking", "reasoning"]),
    any_text,
    payload=st.dictionaries(
        st.sampled_from(["provider", "text_before", "calls_before", "encrypted_content"]),
        st.integers(-2, 9) | st.just("acme"),
    ),
)
messages = st.one_of(
    st.builds(SystemMessage, any_text),
    st.builds(UserMessage, contents),
    st.builds(
        AssistantMessage,
        any_text,
        st.lists(st.builds(ToolCall, any_text, any_text, any_text), max_size=3).map(tuple),
        thinking=st.lists(thoughts, max_size=3).map(tuple),
    ),
    st.builds(ToolMessage, any_text, any_text, contents),
)


@given(st.lists(messages, max_size=8))
def test_a_legal_history_makes_a_legal_request(history: list[Message]) -> None:
    legal = [*repair(history).history, UserMessage("?")]
    check_legal(body(ModelRequest("gpt-5", legal)))


@given(messages)
def test_the_same_message_gives_the_same_bytes(message: Message) -> None:
    one, other = (encode_message(message, provider="acme") for _ in range(2))
    assert one == other
