"""An answer that is decoded, kept and sent back says what it said: encode(decode(x)) keeps the meaning of x."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import (
    AssistantMessage,
    ToolCall,
    ToolMessage,
)
from nanobot.providers.openai_chat._decode import AnswerDecoder
from nanobot.providers.openai_chat._encode import call_ids_for, encode_message
from tests.providers.round_trip import kept

Call = dict[str, Any]

texts = st.text(min_size=1, max_size=12).filter(lambda text: "<" not in text and text.strip())
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
calls = st.lists(
    st.builds(
        lambda id, name, arguments: {
            "id": id,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        },
        names,
        names,
        st.dictionaries(st.text(max_size=4), st.integers(-9, 9) | st.text(max_size=4)),
    ),
    max_size=3,
    unique_by=lambda call: call["id"],
)


def streamed(text: str, wanted: list[Call], pieces: int) -> bytes:
    """The answer as a service streams it, each text in so many pieces."""
    deltas: list[Any] = [{"role": "assistant"}]
    size = max(1, -(-len(text) // pieces))
    deltas += [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    for index, call in enumerate(wanted):
        arguments = call["function"]["arguments"]
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [opening]})
        size = max(1, -(-len(arguments) // pieces))
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + size]}}]}
            for at in range(0, len(arguments), size)
        ]
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    reason = "tool_calls" if wanted else "stop"
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    events = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    return b"".join([*events, b"data: [DONE]\n\n"])


@given(st.one_of(st.just(""), texts), calls, st.integers(1, 4), st.integers(0))
def test_an_answer_comes_back_as_it_came(
    text: str, wanted: list[Call], pieces: int, cut_at: int
) -> None:
    stream = streamed(text, wanted, pieces)
    sent = json.loads(
        encode_message(kept(AnswerDecoder(provider="acme"), stream, cut_at % len(stream))).body
    )
    said: dict[str, Any] = {"role": "assistant", "content": text.lstrip() and sent["content"]}
    assert (sent["content"] or "").strip() == text.strip()
    if wanted:
        said |= {"content": sent["content"], "tool_calls": wanted}
    assert sent == {**said, "content": sent["content"]}


@pytest.mark.parametrize("quirk", ["tool_ids_9", "tool_ids_40"])
@given(st.lists(st.text(min_size=1, max_size=90), min_size=1, max_size=5, unique=True))
def test_a_call_and_its_result_keep_one_id_that_the_service_takes(
    quirk: str, ids: list[str]
) -> None:
    call_id = call_ids_for(frozenset({quirk}))
    said = AssistantMessage("", tuple(ToolCall(one, "t", "{}") for one in ids))
    sent = [
        call["id"] for call in json.loads(encode_message(said, None, call_id).body)["tool_calls"]
    ]
    results = [
        json.loads(encode_message(ToolMessage(one, "t", "ok"), None, call_id).body)["tool_call_id"]
        for one in ids
    ]
    assert sent == results
    assert len(set(sent)) == len(ids)
    for one in sent:
        assert len(one) <= 40 if quirk == "tool_ids_40" else (len(one) == 9 and one.isalnum())


def test_an_id_that_fits_is_kept() -> None:
    assert call_ids_for(frozenset({"tool_ids_9"}))("aB3dE6gH9") == "aB3dE6gH9"
    assert call_ids_for(frozenset({"tool_ids_40"}))("call_abc") == "call_abc"
    assert call_ids_for(frozenset())("x" * 99) == "x" * 99
