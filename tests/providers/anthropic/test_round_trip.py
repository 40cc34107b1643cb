"""An answer that is decoded, kept and sent back says what it said: encode(decode(x)) keeps the meaning of x."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers.anthropic._decode import MessageDecoder
from nanobot.providers.anthropic._encode import encode_message
from tests.providers.loopback import named_event
from tests.providers.round_trip import kept

Block = dict[str, Any]

texts = st.text(min_size=1, max_size=12).filter(str.strip)
ids = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
arguments = st.dictionaries(st.text(max_size=4), st.integers(-9, 9) | st.text(max_size=4))

thinking = st.builds(
    lambda text, signature: {"type": "thinking", "thinking": text, "signature": signature},
    st.text(max_size=8),
    st.text(min_size=1, max_size=6),
)
redacted = st.builds(lambda data: {"type": "redacted_thinking", "data": data}, texts)
text = st.builds(lambda said: {"type": "text", "text": said}, texts)
tool_use = st.builds(
    lambda id, name, input: {"type": "tool_use", "id": id, "name": name, "input": input},
    ids,
    ids,
    arguments,
)
# Reasoning leads to something; calls end an answer.
answers = st.builds(
    lambda said, calls: [block for group in said for block in group] + calls,
    st.lists(
        st.builds(lambda thoughts, said: [*thoughts, said], st.lists(thinking | redacted), text),
        max_size=3,
    ),
    st.lists(tool_use, max_size=3, unique_by=lambda block: block["id"]),
).filter(bool)


def streamed(blocks: list[Block], pieces: int) -> bytes:
    """The answer as the service streams it, each text in so many pieces."""
    events = [named_event("message_start", message={"usage": {"input_tokens": 3}})]
    for index, block in enumerate(blocks):
        deltas: list[Block] = []
        opening = dict(block)
        match block["type"]:
            case "text":
                opening["text"] = ""
                deltas = [
                    {"type": "text_delta", "text": piece} for piece in cut(block["text"], pieces)
                ]
            case "thinking":
                opening |= {"thinking": "", "signature": ""}
                deltas = [
                    {"type": "thinking_delta", "thinking": piece}
                    for piece in cut(block["thinking"], pieces)
                ]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "tool_use":
                opening["input"] = {}
                deltas = [
                    {"type": "input_json_delta", "partial_json": piece}
                    for piece in cut(json.dumps(block["input"]), pieces)
                ]
        events.append(named_event("content_block_start", index=index, content_block=opening))
        events += [named_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(named_event("content_block_stop", index=index))
    events.append(named_event("message_delta", delta={"stop_reason": "end_turn"}))
    events.append(named_event("message_stop"))
    return b"".join(events)  # fmt: skip


def cut(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]


def meaning(blocks: list[Block]) -> list[Block]:
    """The blocks, neighboring texts as one: where one ends means nothing."""
    found: list[Block] = []
    for block in blocks:
        if found and block["type"] == found[-1]["type"] == "text":
            found[-1] = {"type": "text", "text": found[-1]["text"] + block["text"]}
        else:
            found.append(block)
    return found


@given(answers, st.integers(1, 4), st.integers(0))
def test_an_answer_comes_back_as_it_came(blocks: list[Block], pieces: int, cut_at: int) -> None:
    stream = streamed(blocks, pieces)
    message = kept(MessageDecoder(provider="acme"), stream, cut_at % len(stream))
    sent = [json.loads(block) for block in encode_message(message, provider="acme").blocks]
    assert sent == meaning(blocks)


@given(answers)
def test_another_provider_gets_all_of_it_but_the_reasoning(blocks: list[Block]) -> None:
    message = kept(MessageDecoder(provider="acme"), streamed(blocks, 1), 0)
    sent = [json.loads(block) for block in encode_message(message, provider="other").blocks]
    assert sent == meaning([b for b in blocks if not b["type"].endswith("thinking")])
