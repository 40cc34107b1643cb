"""Requests as a Messages service reads them: legal whatever went in."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
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
    ToolOutcome,
    ToolSpec,
    UserMessage,
    repair,
)
from nanobot.providers import ModelRequest
from nanobot.providers._images import EncodedImage, read_images
from nanobot.providers.anthropic._encode import encode_body, encode_message, encode_tools

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
MARK = {"type": "ephemeral"}
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
        provider="acme",
        extra_body=extra_body,
    )
    decoded: dict[str, Any] = json.loads(encoded)
    return decoded


def unmarked(value: Any) -> Any:
    """Leave the cache breakpoints out."""
    if isinstance(value, dict):
        return {key: unmarked(item) for key, item in value.items() if key != "cache_control"}
    return [unmarked(item) for item in value] if isinstance(value, list) else value


def turns(*history: Message, **settings: Any) -> list[Any]:
    found: list[Any] = unmarked(body(ModelRequest("m", history), **settings)["messages"])
    return found


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


# Shapes ---------------------------------------------------------------------------------------


def test_a_plain_request_has_the_fields_that_the_service_requires_and_no_more() -> None:
    assert body(ModelRequest("m", [UserMessage("hi")])) == {
        "model": "m",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [text("hi")]}],
        "stream": True,
    }


def test_every_limit_and_tool_is_sent() -> None:
    bare = ToolSpec("bare", "", {"type": "object"})
    found = body(
        ModelRequest(
            "m",
            [UserMessage("hi")],
            tools=[READ, bare],
            tool_choice="none",
            max_tokens=5,
            temperature=0.3,
        )
    )
    assert unmarked(found["tools"]) == [
        {"name": "read", "description": "Reads.", "input_schema": READ.parameters},
        {"name": "bare", "input_schema": {"type": "object"}},
    ]
    assert found["tool_choice"] == {"type": "none"}
    assert (found["max_tokens"], found["temperature"]) == (5, 0.3)
    assert "tool_choice" not in body(ModelRequest("m", [UserMessage("hi")], tools=[READ]))


def test_the_system_prompt_stands_beside_the_messages() -> None:
    found = body(ModelRequest("m", [SystemMessage("a"), SystemMessage("b"), UserMessage("hi")]))
    assert unmarked(found["system"]) == [text("a"), text("b")]
    assert [turn["role"] for turn in found["messages"]] == ["user"]


def test_a_later_system_message_keeps_its_place_in_the_users_turn() -> None:
    call = ToolCall("1", "read")
    assert turns(
        UserMessage("go"),
        AssistantMessage(tool_calls=(call,)),
        ToolMessage("1", "read", "done"),
        SystemMessage("Hurry."),
        UserMessage("now"),
    )[-1] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": "done"},
            text("<system>\nHurry.\n</system>"),
            text("now"),
        ],
    }


def test_neighbors_of_one_role_are_one_turn() -> None:
    assert turns(
        UserMessage("a"), UserMessage("b"), AssistantMessage("c"), AssistantMessage("d")
    ) == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
    ]


def test_all_results_come_first_in_the_next_turn_and_say_whether_they_failed() -> None:
    outcomes: tuple[ToolOutcome, ...] = (
        "ok",
        "error",
        "denied",
        "timed_out",
        "cancelled_before_start",
        "interrupted_may_have_run",
    )
    calls = tuple(ToolCall(f"id-{at}", "read", '{"at": 1}') for at in range(len(outcomes)))
    results = [
        ToolMessage(call.id, "read", f"{outcome}!", outcome=outcome)
        for call, outcome in zip(calls, outcomes, strict=True)
    ]
    _, answer, replies = turns(
        UserMessage("go"), AssistantMessage("", calls), *results, UserMessage("and?")
    )
    assert answer["content"] == [
        {"type": "tool_use", "id": call.id, "name": "read", "input": {"at": 1}} for call in calls
    ]
    *shown, last = replies["content"]
    assert last == text("and?")
    assert [(block["tool_use_id"], block["content"]) for block in shown] == [
        (result.tool_call_id, result.content) for result in results
    ]
    assert [block.get("is_error", False) for block in shown] == [False, *[True] * 5]


@pytest.mark.parametrize("content", ["", (), (TextPart(" \n"),)], ids=repr)
def test_a_result_without_content_is_still_a_result(content: str | tuple[Part, ...]) -> None:
    answer = AssistantMessage(tool_calls=(ToolCall("1", "read"),))
    _, replies = turns(answer, ToolMessage("1", "", content))
    assert replies["content"] == [{"type": "tool_result", "tool_use_id": "1"}]


def test_a_text_without_anything_in_it_is_never_sent() -> None:
    assert turns(
        UserMessage(" "),
        AssistantMessage("\n"),
        UserMessage(()),
        AssistantMessage(" ", (ToolCall("1", "read"),)),
        ToolMessage("1", "read", (TextPart(""), TextPart("seen"))),
        UserMessage((TextPart(""), FilePart("a.pdf", "application/pdf"), FilePart("b"))),
    ) == [
        {"role": "user", "content": [text("(empty)"), text("(empty)")]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "read", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [text("seen")]},
                text("[file: a.pdf, application/pdf]"),
                text("[file: b]"),
            ],
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "legal"),
    [
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ("{}", {}),
        ("", {}),
        ('{"a": 1', {}),
        ('{"a": NaN}', {}),
        ("[1]", {}),
        ("null", {}),
        ("rm -rf", {}),
        ('{"a": "\ud800"}', {}),
        ('{"a":' * 5000, {}),
    ],
)
def test_arguments_that_are_not_an_object_are_sent_as_an_empty_one(
    written: str, legal: dict[str, Any]
) -> None:
    (turn,) = turns(AssistantMessage(tool_calls=(ToolCall("1", "run", written),)))
    assert turn["content"][0]["input"] == legal


@pytest.mark.parametrize(
    "call_id", ["", "call_ok-1", "functions.read:0", "call|fc", "ü", "x" * 200, "\ud800"]
)
def test_ids_from_elsewhere_are_made_to_fit_and_still_join_call_and_result(call_id: str) -> None:
    answer, replies = turns(
        AssistantMessage(tool_calls=(ToolCall(call_id, "run"),)), ToolMessage(call_id, "run", "x")
    )
    sent = answer["content"][0]["id"]
    assert sent == replies["content"][0]["tool_use_id"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", sent)
    assert (sent == call_id) == (call_id == "call_ok-1")


def test_ids_that_look_alike_when_made_to_fit_stay_apart() -> None:
    calls = tuple(ToolCall(call_id, "run") for call_id in ("a.b", "a:b", "a_b", "." * 99, ":" * 99))
    (turn,) = turns(AssistantMessage(tool_calls=calls))
    assert len({block["id"] for block in turn["content"]}) == len(calls)


@pytest.mark.parametrize("name", ["read file", "functions.read", "", "x" * 99, "läuft"])
def test_a_tool_that_there_cannot_be_is_called_by_a_name_that_there_can_be(name: str) -> None:
    (turn,) = turns(AssistantMessage(tool_calls=(ToolCall("1", name),)))
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", turn["content"][0]["name"])


def test_tools_that_the_history_mentions_are_described_when_none_is_offered() -> None:
    history: list[Message] = [
        UserMessage("go"),
        AssistantMessage(tool_calls=(ToolCall("1", "read"), ToolCall("2", "read"))),
        ToolMessage("1", "read", "x"),
        ToolMessage("2", "read", "y"),
    ]
    found = unmarked(body(ModelRequest("m", history)))
    assert found["tools"] == [{"name": "read", "input_schema": {"type": "object"}}]
    assert found["tool_choice"] == {"type": "none"}


# Images ---------------------------------------------------------------------------------------


async def test_images_are_read_from_disk_and_web_urls_are_left_alone(tmp_path: Path) -> None:
    picture = tmp_path / "looks-like.txt"
    picture.write_bytes(PNG)
    encoded = base64.b64encode(PNG).decode()
    by_bytes = {"type": "base64", "media_type": "image/png", "data": encoded}
    sources = {
        str(picture): by_bytes,
        "https://example.com/a.png": {"type": "url", "url": "https://example.com/a.png"},
        "data:image/gif;base64,R0lG": {
            "type": "base64",
            "media_type": "image/gif",
            "data": "R0lG",
        },
    }
    call = ToolCall("1", "shoot")
    history: list[Message] = [
        UserMessage((*map(ImagePart, sources), TextPart("look"))),
        AssistantMessage(tool_calls=(call,)),
        ToolMessage("1", "shoot", (TextPart("taken"), ImagePart(str(picture)))),
    ]
    images = await read_images(history)
    first, _, results = turns(*history, images=images)
    assert [block.get("source") for block in first["content"]] == [*sources.values(), None]
    assert results["content"][0]["content"] == [
        text("taken"),
        {"type": "image", "source": by_bytes},
    ]


def test_an_image_that_cannot_be_shown_is_told_in_words() -> None:
    sources = ["/gone.png", "data:image/svg+xml,<svg/>", "data:nonsense", "data:image/png;base64,?"]
    (turn,) = turns(UserMessage(tuple(map(ImagePart, sources))))
    assert [block["text"] for block in turn["content"]] == [
        "[image not available: /gone.png]",
        "[image of a type that cannot be shown, image/svg+xml]",
        "[image not available]",
        "[image not available]",
    ]


# Reasoning ------------------------------------------------------------------------------------


def test_reasoning_goes_back_to_the_provider_it_is_from_and_to_no_other() -> None:
    blocks = (
        ThinkingBlock("thinking", "imported", "sig-1"),
        ThinkingBlock("thinking", "imported, and never signed"),
        ThinkingBlock(
            "thinking", "ours, of a service that does not sign", "", {"provider": "acme"}
        ),
        ThinkingBlock("thinking", "ours", "sig-2", {"provider": "acme"}),
        ThinkingBlock("redacted_thinking", payload={"data": "secret", "provider": "acme"}),
        ThinkingBlock("thinking", "theirs", "sig-3", {"provider": "other"}),
        ThinkingBlock("reasoning", payload={"id": "rs_1", "encrypted_content": "x"}),
    )
    (turn,) = turns(AssistantMessage("said", thinking=blocks))
    assert turn["content"] == [
        {"type": "thinking", "thinking": "imported", "signature": "sig-1"},
        {"type": "thinking", "thinking": "ours, of a service that does not sign", "signature": ""},
        {"type": "thinking", "thinking": "ours", "signature": "sig-2"},
        {"type": "redacted_thinking", "data": "secret"},
        text("said"),
    ]


def test_reasoning_goes_back_to_where_it_was() -> None:
    def thought(said: str, **place: int) -> ThinkingBlock:
        return ThinkingBlock("thinking", said, "s", {"provider": "acme", **place})

    message = AssistantMessage(
        "First.Then.",
        (ToolCall("1", "read"), ToolCall("2", "read")),
        thinking=(
            thought("a"),
            thought("b", text_before=6),
            thought("c", text_before=11, calls_before=1),
        ),
    )
    (turn,) = turns(message)
    kinds = [block.get("thinking") or block.get("text") or block["id"] for block in turn["content"]]
    assert kinds == ["a", "First.", "b", "Then.", "1", "c", "2"]


def test_text_that_was_changed_since_loses_nothing_by_its_reasoning() -> None:
    block = ThinkingBlock("thinking", "a", "s", {"text_before": 500, "calls_before": "x"})
    (turn,) = turns(AssistantMessage("short", (ToolCall("1", "read"),), thinking=(block,)))
    assert [found["type"] for found in turn["content"]] == ["text", "thinking", "tool_use"]


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    block = ThinkingBlock("thinking", "a", "s", {"text_before": 5})
    assert turns(AssistantMessage("Until", thinking=(block, block), interrupted=True)) == [
        {"role": "assistant", "content": [text("Until")]}
    ]
    assert turns(UserMessage("go"), AssistantMessage(thinking=(block,)))[1:] == []


# What the service keeps of the prompt ---------------------------------------------------------


def marks(found: dict[str, Any]) -> list[str]:
    """Where breakpoints are."""
    places = {f"tool {tool['name']}": tool for tool in found.get("tools", ())}
    places |= {f"system {block['text']}": block for block in found.get("system", ())}
    for turn in found["messages"]:
        for block in turn["content"]:
            name = block.get("text") or block.get("tool_use_id") or block["type"]
            places[f"{turn['role']} {name}"] = block
    return [place for place, block in places.items() if block.get("cache_control") == MARK]


def test_the_kept_prefix_ends_at_the_system_prompt_and_the_last_user_turn_but_one() -> None:
    history: list[Message] = [
        SystemMessage("s1"),
        SystemMessage("s2"),
        UserMessage("one"),
        AssistantMessage("a"),
        UserMessage("two"),
        AssistantMessage("b"),
        UserMessage("three"),
    ]
    assert marks(body(ModelRequest("m", history, tools=[READ]))) == ["system s2", "user two"]
    assert marks(body(ModelRequest("m", history[2:3], tools=[READ]))) == ["tool read"]
    assert marks(body(ModelRequest("m", history[2:3]))) == []


def test_inside_a_turn_with_tools_the_newest_results_are_kept_too() -> None:
    history: list[Message] = [SystemMessage("s"), UserMessage("go")]
    for at in "12":
        history += [
            AssistantMessage(tool_calls=(ToolCall(at, "read"),)),
            ToolMessage(at, "read", "x"),
        ]
    assert marks(body(ModelRequest("m", history, tools=[READ]))) == ["system s", "user 1", "user 2"]


def test_what_was_marked_as_the_newest_results_is_found_by_the_next_request() -> None:
    history: list[Message] = [UserMessage("go")]
    marked: list[set[str]] = []
    for at in "1234":
        history += [
            AssistantMessage(tool_calls=(ToolCall(at, "read"),)),
            ToolMessage(at, "read", "x"),
        ]
        marked.append(set(marks(body(ModelRequest("m", history, tools=[READ])))))
    for before, after in pairwise(marked):
        assert before & after, "no breakpoint of the last request is one of this"


# All of it ------------------------------------------------------------------------------------


def test_extra_body_is_merged_in_last_object_into_object() -> None:
    request = ModelRequest(
        "claude-sonnet-5",
        [UserMessage("hi")],
        reasoning_effort="high",
        extra_body={"thinking": {"display": "omitted"}, "top_k": 1},
    )
    found = body(request, extra_body={"metadata": {"user_id": "u"}, "top_k": 2})
    assert found["thinking"] == {"type": "adaptive", "display": "omitted"}
    assert (found["metadata"], found["top_k"]) == ({"user_id": "u"}, 1)
    assert body(request, extra_body={"messages": "theirs"})["messages"] == "theirs"


def test_half_a_character_anywhere_does_not_stop_a_request() -> None:
    half = "\ud83d"
    history: list[Message] = [
        SystemMessage(half),
        UserMessage(f"a{half}b"),
        UserMessage((TextPart("\ud83d\ude00"), FilePart(half), ImagePart(half))),
        AssistantMessage(
            half,
            (ToolCall(half, half),),
            thinking=(ThinkingBlock("thinking", half, half, {"provider": "acme"}),),
        ),
        ToolMessage(half, "t", half),
        SystemMessage(half),
    ]
    tool = ToolSpec("t", half, {"description": half, half: [half]})
    found = body(ModelRequest(half, history, tools=[tool], extra_body={half: half}))
    assert found["messages"][0]["content"][0]["text"] == "a\ufffdb"
    assert found["messages"][0]["content"][1]["text"] == "\U0001f600"


def check_legal(found: dict[str, Any]) -> None:
    """What the service is documented to refuse, or was seen to."""
    assert found["messages"][0]["role"] == "user"
    roles = [turn["role"] for turn in found["messages"]]
    assert all(one != other for one, other in pairwise(roles))
    blocks = [*found.get("system", ()), *found.get("tools", ())]
    open_calls: list[str] = []
    for turn in found["messages"]:
        assert turn["content"], "a turn without content"
        blocks += turn["content"]
        kinds = [block["type"] for block in turn["content"]]
        assert not kinds[-1].endswith("thinking"), "reasoning that led to nothing"
        results = [b["tool_use_id"] for b in turn["content"] if b["type"] == "tool_result"]
        assert kinds[: len(results)] == ["tool_result"] * len(results), "results come first"
        assert sorted(results) == sorted(open_calls), "each call has one result, at once"
        open_calls = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
        assert len(set(open_calls)) == len(open_calls)
    for block in blocks:
        if block.get("type") == "text":
            assert block["text"].strip(), "an empty text"
        if block.get("type") == "tool_use":
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", block["id"])
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", block["name"])
            assert isinstance(block["input"], dict)
    assert sum("cache_control" in block for block in blocks) <= 4


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)
parts = st.one_of(
    st.builds(TextPart, any_text),
    st.builds(FilePart, any_text),
    st.builds(ImagePart, any_text | st.just("data:image/png;base64,AAAA")),
)
contents = any_text | st.lists(parts, max_size=3).map(tuple)
thoughts = st.builds(
    ThinkingBlock,
    st.sampled_from(["thinking", "redacted_thinking", "reasoning"]),
    any_text,
    any_text,
    st.dictionaries(
        st.sampled_from(["provider", "text_before", "calls_before", "data"]),
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


@given(st.lists(messages, max_size=8), st.booleans(), st.sampled_from([None, "low", "high"]))
def test_a_legal_history_makes_a_legal_request(
    history: list[Message], with_tools: bool, effort: str | None
) -> None:
    legal = [*repair(history).history, UserMessage("?")]
    request = ModelRequest(
        "claude-opus-4-5", legal, tools=[READ] if with_tools else (), reasoning_effort=effort
    )
    check_legal(body(request))


@given(messages)
def test_the_same_message_gives_the_same_bytes(message: Message) -> None:
    one, other = (encode_message(message, provider="acme") for _ in range(2))
    assert one == other
