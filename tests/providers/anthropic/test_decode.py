"""Answers in the Messages format, recorded, fed at every cut; and what services get wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import (
    AuthenticationFailed,
    MalformedStream,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from nanobot.messages import (
    Assembler,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageDelta,
)
from nanobot.providers._sse import EventStreamDecoder
from nanobot.providers.anthropic._decode import MessageDecoder
from tests.providers.loopback import joined

# What each service sends, shortened: Anthropic's after its documentation, the others' as they were recorded. Ids and
# signatures are made up.
RECORDED = {
    "anthropic, thinking and two tools": (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
        b'"role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,'
        b'"output_tokens":1,"service_tier":"standard"}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"thinking","thinking":"","signature":""}}\n\n'
        b'event: ping\ndata: {"type": "ping"}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"thinking_delta","thinking":"Let me "}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"thinking_delta","thinking":"see."}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbc"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":'
        b'{"type":"redacted_thinking","data":"EmwKAhgB"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":1}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":2,"content_block":'
        b'{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":2,"delta":'
        b'{"type":"text_delta","text":"Gr\xc3\xbc\xc3\x9f "}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":2,"delta":'
        b'{"type":"text_delta","text":"\\ud83c\\udf0d"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":2}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":3,"content_block":'
        b'{"type":"tool_use","id":"toolu_1","name":"read_file","input":{}}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":3,"delta":'
        b'{"type":"input_json_delta","partial_json":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":3,"delta":'
        b'{"type":"input_json_delta","partial_json":"{\\"path\\":"}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":3,"delta":'
        b'{"type":"input_json_delta","partial_json":" \\"a\\"}"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":3}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":4,"content_block":'
        b'{"type":"tool_use","id":"toolu_2","name":"list_dir","input":{}}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":4}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"tool_use",'
        b'"stop_sequence":null},"usage":{"output_tokens":89,"output_tokens_details":{"thinking_tokens":30}}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    ),
    "anthropic, a search of its own": (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":9,'
        b'"output_tokens":1}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"input_json_delta","partial_json":"{\\"query\\":\\"x\\"}"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":'
        b'{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result"}]}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":1}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":2,"content_block":'
        b'{"type":"text","text":"","citations":[]}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":2,"delta":'
        b'{"type":"citations_delta","citation":{"type":"web_search_result_location"}}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":2,"delta":'
        b'{"type":"text_delta","text":"Found."}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":2}\n\n'
        b'event: something_new\ndata: {"type":"something_new","delta":[1]}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"input_tokens":900,"cache_read_input_tokens":0,"output_tokens":12,'
        b'"server_tool_use":{"web_search_requests":1}}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    ),
    "llama.cpp": (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"chatcmpl-1","type":"message",'
        b'"role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":'
        b'{"cache_read_input_tokens":8,"input_tokens":16,"output_tokens":0}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"Paris"}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"."}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"max_tokens",'
        b'"stop_sequence":null},"usage":{"output_tokens":8}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    ),
    "aimock": (
        b'event: message_start\r\ndata: {"type":"message_start","message":{"id":"msg_2","type":"message",'
        b'"role":"assistant","content":[],"model":"claude","usage":{"input_tokens":0,"output_tokens":0}}}\r\n\r\n'
        b'event: content_block_start\r\ndata: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"tool_use","id":"toolu_3","name":"read_file","input":{}}}\r\n\r\n'
        b'event: content_block_delta\r\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"input_json_delta","partial_json":"{\\"path\\":\\"a.txt\\"}"}}\r\n\r\n'
        b'event: content_block_stop\r\ndata: {"type":"content_block_stop","index":0}\r\n\r\n'
        b'event: message_delta\r\ndata: {"type":"message_delta","delta":{"stop_reason":"tool_use"},'
        b'"usage":{"output_tokens":0}}\r\n\r\n'
        b'event: message_stop\r\ndata: {"type":"message_stop"}\r\n\r\n'
    ),
}

OURS = {"provider": "acme"}

EXPECTED: dict[str, list[Delta]] = {
    "anthropic, thinking and two tools": [
        UsageDelta(Usage(1125, 1, 1126, 1000, None, 100)),
        ReasoningDelta("Let me see."),
        ThinkingDelta(ThinkingBlock("thinking", "Let me see.", "EqQBCgIYAhIM1gbc", OURS)),
        ThinkingDelta(ThinkingBlock("redacted_thinking", payload={"data": "EmwKAhgB", **OURS})),
        TextDelta("Grüß 🌍"),
        ToolCallDelta(0, "toolu_1", "read_file"),
        ToolCallDelta(0, arguments='{"path":'),
        ToolCallDelta(0, arguments=' "a"}'),
        ToolCallDelta(1, "toolu_2", "list_dir"),
        UsageDelta(Usage(1125, 89, 1214, 1000, 30, 100)),
        Finished("tool_calls"),
    ],
    "anthropic, a search of its own": [
        UsageDelta(Usage(9, 1, 10)),
        TextDelta("Found."),
        UsageDelta(Usage(900, 12, 912, 0)),
        Finished("stop"),
    ],
    "llama.cpp": [
        UsageDelta(Usage(24, 0, 24, 8)),
        TextDelta("Paris."),
        UsageDelta(Usage(24, 8, 32, 8)),
        Finished("length"),
    ],
    "aimock": [
        UsageDelta(Usage(0, 0, 0)),
        ToolCallDelta(0, "toolu_3", "read_file"),
        ToolCallDelta(0, arguments='{"path":"a.txt"}'),
        UsageDelta(Usage(0, 0, 0)),
        Finished("tool_calls"),
    ],
}


def decoded(pieces: Iterable[bytes]) -> list[Delta]:
    """Decode a stream that must end properly."""
    events = EventStreamDecoder()
    decoder = MessageDecoder(provider="acme")
    deltas: list[Delta] = []
    for piece in pieces:
        for event in events.feed(piece):
            decoder.feed(event.data, event.event, deltas)
    assert decoder.done
    return joined(deltas + decoder.end())


@pytest.mark.parametrize("service", RECORDED)
def test_a_recorded_answer_is_understood_wherever_it_is_cut(service: str) -> None:
    stream = RECORDED[service]
    assert decoded([stream]) == EXPECTED[service]
    assert decoded(bytes([byte]) for byte in stream) == EXPECTED[service]
    for at in range(len(stream)):
        assert decoded([stream[:at], stream[at:]]) == EXPECTED[service], at


@given(
    st.sampled_from(sorted(RECORDED)),
    st.lists(st.integers(min_value=0), min_size=1, max_size=20),
)
def test_no_cut_changes_a_recorded_answer(service: str, cuts: list[int]) -> None:
    stream = RECORDED[service]
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    assert decoded(stream[start:end] for start, end in pairwise(edges)) == EXPECTED[service]


def test_a_recorded_answer_becomes_the_message_that_history_keeps() -> None:
    assembler = Assembler()
    assembler.feed(decoded([RECORDED["anthropic, thinking and two tools"]]))
    message = assembler.message()
    assert message.content == "Grüß 🌍"
    assert message.reasoning == "Let me see."
    assert [block.kind for block in message.thinking] == ["thinking", "redacted_thinking"]
    assert message.tool_calls == (
        ToolCall("toolu_1", "read_file", '{"path": "a"}'),
        ToolCall("toolu_2", "list_dir", "{}"),
    )
    assert (assembler.finish_reason, assembler.usage) == (
        "tool_calls",
        Usage(1125, 89, 1214, 1000, 30, 100),
    )


# What services get wrong ----------------------------------------------------------------------


def fed(*payloads: dict[str, Any] | bytes, event: str = "message") -> list[Delta]:
    """Decode events without names, as some services send them."""
    decoder = MessageDecoder(provider="acme")
    deltas: list[Delta] = []
    for payload in payloads:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        decoder.feed(raw, event, deltas)
    return deltas + decoder.end()


def start(index: int | None = 0, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index: int | None = 0, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop(reason: str | None) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("END_TURN", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("pause_turn", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("a reason of their own", "unknown"),
    ],
)
def test_stop_reasons_are_translated(said: str, meant: FinishReason) -> None:
    assert fed(stop(said)) == [Finished(meant)]


def test_a_message_that_was_ended_without_a_reason_gets_an_unknown_one() -> None:
    assert fed(stop(None), {"type": "message_stop"}) == [Finished("unknown")]


def test_a_whole_message_is_an_answer() -> None:
    message = {
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "2", "name": "g", "input": {}},
            {"type": "image"},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    assert fed(message) == [
        ReasoningDelta("hm"),
        ThinkingDelta(ThinkingBlock("thinking", "hm", "s", OURS)),
        TextDelta("Hi"),
        ToolCallDelta(0, "1", "f"),
        ToolCallDelta(0, arguments='{"a":1}'),
        ToolCallDelta(1, "2", "g"),
        UsageDelta(Usage(1, 2, 3)),
        Finished("tool_calls"),
    ]


def test_input_that_comes_whole_with_its_block_counts_unless_it_is_streamed_as_well() -> None:
    deltas = fed(
        start(0, type="tool_use", id="1", name="f", input={"a": 1}),
        {"type": "content_block_stop", "index": 0},
        start(1, type="tool_use", id="2", name="f", input={"a": 2}),
        more(1, type="input_json_delta", partial_json='{"a":3}'),
        {"type": "content_block_stop", "index": 1},
    )
    arguments = [delta.arguments for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert arguments == ["", '{"a":1}', "", '{"a":3}']


def test_blocks_that_are_never_ended_are_ended_by_the_next_or_by_the_end() -> None:
    deltas = fed(
        start(0, type="thinking", thinking="a", signature="s"),
        start(0, type="tool_use", id="1", name="f", input={"a": 1}),
        stop("tool_use"),
    )
    assert deltas == [
        ReasoningDelta("a"),
        ThinkingDelta(ThinkingBlock("thinking", "a", "s", OURS)),
        ToolCallDelta(0, "1", "f"),
        ToolCallDelta(0, arguments='{"a":1}'),
        Finished("tool_calls"),
    ]


def test_deltas_without_an_index_belong_to_the_block_that_was_begun_last() -> None:
    deltas = fed(
        start(None, type="tool_use", id="1", name="f"),
        more(None, partial_json="{}"),
        start(None, type="tool_use", id="2", name="g"),
        more(None, partial_json="[]"),
    )
    assert [delta for delta in deltas if isinstance(delta, ToolCallDelta)] == [
        ToolCallDelta(0, "1", "f"),
        ToolCallDelta(0, arguments="{}"),
        ToolCallDelta(1, "2", "g"),
        ToolCallDelta(1, arguments="[]"),
    ]


def test_text_in_the_event_that_begins_a_block_is_not_lost() -> None:
    assert fed(start(type="text", text="a"), more(text="b"))[:2] == [TextDelta("a"), TextDelta("b")]


def test_reasoning_remembers_how_much_was_said_before_it() -> None:
    deltas = fed(
        start(0, type="text", text="First."),
        start(1, type="tool_use", id="1", name="f"),
        start(2, type="redacted_thinking", data="x"),
    )
    place = {"text_before": 6, "calls_before": 1}
    assert deltas[2] == ThinkingDelta(
        ThinkingBlock("redacted_thinking", payload={"data": "x", **OURS, **place})
    )


def test_thinking_that_is_not_shown_is_kept_by_its_signature() -> None:
    deltas = fed(
        start(0, type="thinking"), more(signature="s"), {"type": "content_block_stop", "index": 0}
    )
    assert deltas[0] == ThinkingDelta(ThinkingBlock("thinking", "", "s", OURS))


def test_null_is_tolerated_everywhere() -> None:
    nothing = dict.fromkeys(("text", "thinking", "signature", "id", "name", "input", "data"))
    counts = dict.fromkeys(("input_tokens", "output_tokens", "output_tokens_details"))
    deltas = fed(
        {"type": "message_start", "message": None},
        {"type": "message_start", "message": {"usage": None}},
        {"type": "content_block_start", "content_block": None},
        {"type": "content_block_delta", "delta": None},
        {"type": "message_delta", "delta": None, "usage": counts},
        *(start(**nothing, type=kind) for kind in (None, "text", "thinking", "tool_use")),
        more(**nothing, partial_json=None),
        {"type": "content_block_stop", "index": None},
        {"type": "content_block_stop", "index": 77},
        stop(None),
        {},
        b"",
    )
    assert deltas == [UsageDelta(Usage(0, 0, 0)), ToolCallDelta(0), Finished("unknown")]


def test_a_character_cut_between_two_events_is_put_together() -> None:
    first = b'{"type":"content_block_delta","delta":{"text":"a\\ud83d"}}'
    second = b'{"type":"content_block_delta","delta":{"text":"\\ude00b"}}'
    assert fed(first, second)[:2] == [TextDelta("a"), TextDelta("😀b")]
    assert fed(first)[:2] == [TextDelta("a"), TextDelta("\ufffd")]
    assert fed(second)[0] == TextDelta("\ufffdb")


def test_bytes_that_are_not_utf_8_cost_a_character_and_not_the_answer() -> None:
    payload = b'{"type":"content_block_delta","delta":{"text":"a\xf0\x9fb"}}'
    assert fed(payload)[0] == TextDelta("a\ufffdb")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("overloaded_error", ServiceUnavailable),
        ("api_error", ServiceUnavailable),
        ("timeout_error", ServiceUnavailable),
        ("rate_limit_error", RateLimited),
        ("authentication_error", AuthenticationFailed),
        ("permission_error", AuthenticationFailed),
        ("invalid_request_error", RequestRejected),
        ("not_found_error", RequestRejected),
        ("billing_error", RequestRejected),
        ("an error of their own", ServiceUnavailable),
    ],
)
@pytest.mark.parametrize("name", ["error", "message"])
def test_an_error_inside_the_stream_has_its_class_and_words(
    error: str, kind: type[ProviderError], name: str
) -> None:
    payload = {"type": "error", "error": {"type": error, "message": "slow down"}}
    with pytest.raises(ProviderError, match=r"acme broke off its answer: slow down\.") as caught:
        fed(payload, event=name)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "payload",
    [
        {"error": "slow down"},
        {"error": {"message": "slow down"}},
        {"type": "error", "message": "slow down"},
        {"message": "slow down"},
        {"detail": "slow down"},
        {"object": "error", "code": 500, "title": "slow down"},
        {**more(text="a"), "error": {"message": "slow down"}},
    ],
    ids=repr,
)
def test_an_error_in_the_words_of_a_proxy_is_one_too(payload: dict[str, Any]) -> None:
    with pytest.raises(ServiceUnavailable, match="slow down"):
        fed(payload)


def test_an_error_that_is_not_json_is_prose() -> None:
    with pytest.raises(ServiceUnavailable, match="upstream went away"):
        fed(b"upstream went away", event="error")


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b'{"type":"content_block_delta","delta":{"text":"cut',
        b"[1]",
        b'"text"',
        b"null",
        b'{"type":"content_block_delta","delta":5}',
        b'{"type":"content_block_delta","delta":{"text":5}}',
        b"[" * 100_000,
        b'{"error":' * 100_000,
    ],
    ids=range(9),
)
def test_what_is_not_part_of_a_message_is_malformed_and_shown(payload: bytes) -> None:
    with pytest.raises(MalformedStream, match="not part of a message") as caught:
        fed(payload)
    assert caught.value.body_excerpt[:5] == payload[:5].decode()


def test_the_key_is_not_shown_with_what_was_malformed() -> None:
    decoder = MessageDecoder(provider="acme", secrets=("canary-key-123",))
    with pytest.raises(MalformedStream) as caught:
        decoder.feed(b"you sent canary-key-123", "message", [])
    assert "canary" not in f"{caught.value} {vars(caught.value)}"


@pytest.mark.parametrize("name", ["ping", "vendor_event", "content_block_delta_v2"])
def test_events_that_are_not_understood_are_not_even_decoded(name: str) -> None:
    assert fed(b"rubbish", event=name) == [Finished("unknown")]
    assert fed({"type": name, "message": "rubbish", "error": None}) == [Finished("unknown")]


def test_nothing_after_the_end_counts() -> None:
    end = {"type": "message_stop"}
    assert fed(stop("end_turn"), end, b"rubbish") == [Finished("stop")]
    assert fed(stop("end_turn"), b"[DONE]", b"rubbish") == [Finished("stop")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
names = st.sampled_from(
    ["type", "index", "delta", "content_block", "message", "usage", "text", "input", "error"]
)
types = st.sampled_from(
    ["content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message"]
)
shaped = st.recursive(
    json_values | types,
    lambda inner: st.dictionaries(names, inner | st.lists(inner, max_size=2), max_size=5),
    max_leaves=20,
)


@given(st.lists(shaped, max_size=3), st.sampled_from(["message", "error", "ping"]))
def test_no_json_whatsoever_raises_anything_but_a_provider_error(
    values: list[object], name: str
) -> None:
    with contextlib.suppress(ProviderError):
        fed(*(json.dumps(value).encode() for value in values), event=name)


@given(st.binary(max_size=200))
def test_no_bytes_whatsoever_raise_anything_but_a_provider_error(payload: bytes) -> None:
    with contextlib.suppress(ProviderError):
        fed(payload)
