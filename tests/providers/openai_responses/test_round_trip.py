"""An answer that is decoded, kept and sent back says what it said: encode(decode(x)) keeps the meaning of x."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers.openai_responses._decode import ResponseDecoder
from nanobot.providers.openai_responses._encode import encode_message
from tests.providers.loopback import named_event
from tests.providers.round_trip import kept

Item = dict[str, Any]

texts = st.text(min_size=1, max_size=12)
ids = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)

hidden = st.builds(
    lambda id, summary, cipher: {
        "type": "reasoning",
        "id": id,
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "encrypted_content": cipher,
    },
    ids,
    st.lists(texts, max_size=1),
    texts,
)
in_the_open = st.builds(
    lambda id, thought: {
        "type": "reasoning",
        "id": id,
        "summary": [],
        "content": [{"type": "reasoning_text", "text": thought}],
    },
    ids,
    texts,
)
message = st.builds(
    lambda said: {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": said}],
    },
    texts,
)
call = st.builds(
    lambda id, name, arguments: {
        "type": "function_call",
        "call_id": id,
        "name": name,
        "arguments": json.dumps(arguments),
    },
    ids,
    ids,
    st.dictionaries(st.text(max_size=4), st.integers(-9, 9) | st.text(max_size=4)),
)
reasoning = st.lists(hidden | in_the_open, max_size=2)
# Reasoning leads to something; what is said comes before the calls.
answers = st.builds(
    lambda before, said, between, calls: [
        *([*before, *said] if said else []),
        *([*between, *calls] if calls else []),
    ],
    reasoning,
    st.lists(message, max_size=1),
    reasoning,
    st.lists(call, max_size=3, unique_by=lambda item: item["call_id"]),
).filter(bool)


def streamed(items: list[Item], pieces: int) -> bytes:
    """The answer as the service streams it, each text in so many pieces."""
    events = [named_event("response.created", response={"status": "in_progress"})]
    for index, item in enumerate(items):
        opening, event, text = {**item, "id": f"item_{index}"}, "", ""
        match item["type"]:
            case "message":
                opening["content"] = []
                event, text = "output_text", item["content"][0]["text"]
            case "function_call":
                opening["arguments"] = ""
                event, text = "function_call_arguments", item["arguments"]
            case "reasoning" if item["summary"]:
                event, text = "reasoning_summary_text", item["summary"][0]["text"]
        events.append(named_event("response.output_item.added", output_index=index, item=opening))
        size = max(1, -(-len(text) // pieces))
        events += [
            named_event(f"response.{event}.delta", output_index=index, delta=text[at : at + size])
            for at in range(0, len(text), size)
        ]
        done = {**item, "id": item.get("id", f"item_{index}")}
        events.append(named_event("response.output_item.done", output_index=index, item=done))
    events.append(named_event("response.completed", response={"status": "completed"}))
    return b"".join(events)


def meaning(items: list[Item]) -> list[Item]:
    """The items; what the model said may be sent as plain text."""
    return [
        {**item, "content": item["content"][0]["text"]} if item["type"] == "message" else item
        for item in items
    ]


@given(answers, st.integers(1, 4), st.integers(0))
def test_an_answer_comes_back_as_it_came(items: list[Item], pieces: int, cut_at: int) -> None:
    stream = streamed(items, pieces)
    answer = kept(ResponseDecoder(provider="acme"), stream, cut_at % len(stream))
    sent = [json.loads(item) for item in encode_message(answer, provider="acme").items]
    assert sent == meaning(items)


@given(answers)
def test_another_provider_gets_all_of_it_but_the_reasoning(items: list[Item]) -> None:
    answer = kept(ResponseDecoder(provider="acme"), streamed(items, 1), 0)
    sent = [json.loads(item) for item in encode_message(answer, provider="other").items]
    assert sent == meaning([item for item in items if item["type"] != "reasoning"])
