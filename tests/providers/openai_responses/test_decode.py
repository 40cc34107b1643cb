"""Answers in the Responses format, recorded, fed at every cut; and what services get wrong."""

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
    MalformedStream,
    OutOfCredit,
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
from nanobot.providers.openai_responses._decode import ResponseDecoder
from tests.providers.loopback import joined

# What each service sends, shortened: OpenAI's after its documentation, the others' as they were recorded. Ids and
# ciphers are made up.
RECORDED = {
    "openai, reasoning and two tools": (
        b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1",'
        b'"object":"response","status":"in_progress","error":null,"instructions":"Be brief.","output":[],'
        b'"tools":[{"type":"function","name":"read_file"}],"usage":null}}\n\n'
        b'event: response.in_progress\ndata: {"type":"response.in_progress","sequence_number":1,"response":{}}\n\n'
        b'event: response.output_item.added\ndata: {"type":"response.output_item.added","sequence_number":2,'
        b'"output_index":0,"item":{"id":"rs_1","type":"reasoning","encrypted_content":"gAAhalf","summary":[]}}\n\n'
        b'event: response.reasoning_summary_part.added\ndata: {"type":"response.reasoning_summary_part.added",'
        b'"item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}\n\n'
        b'event: response.reasoning_summary_text.delta\ndata: {"type":"response.reasoning_summary_text.delta",'
        b'"item_id":"rs_1","output_index":0,"summary_index":0,"delta":"**Looking** ","obfuscation":"x"}\n\n'
        b'event: response.reasoning_summary_text.delta\ndata: {"type":"response.reasoning_summary_text.delta",'
        b'"item_id":"rs_1","output_index":0,"summary_index":0,"delta":"around."}\n\n'
        b'event: response.reasoning_summary_text.done\ndata: {"type":"response.reasoning_summary_text.done",'
        b'"item_id":"rs_1","output_index":0,"summary_index":0,"text":"**Looking** around."}\n\n'
        b'event: response.reasoning_summary_part.added\ndata: {"type":"response.reasoning_summary_part.added",'
        b'"item_id":"rs_1","output_index":0,"summary_index":1,"part":{"type":"summary_text","text":""}}\n\n'
        b'event: response.reasoning_summary_text.delta\ndata: {"type":"response.reasoning_summary_text.delta",'
        b'"item_id":"rs_1","output_index":0,"summary_index":1,"delta":"Reading."}\n\n'
        b'event: response.output_item.done\ndata: {"type":"response.output_item.done","output_index":0,'
        b'"item":{"id":"rs_1","type":"reasoning","encrypted_content":"gAAwhole","summary":['
        b'{"type":"summary_text","text":"**Looking** around."},{"type":"summary_text","text":"Reading."}]}}\n\n'
        b'event: response.output_item.added\ndata: {"type":"response.output_item.added","output_index":1,'
        b'"item":{"id":"msg_1","type":"message","status":"in_progress","content":[],"role":"assistant"}}\n\n'
        b'event: response.content_part.added\ndata: {"type":"response.content_part.added","item_id":"msg_1",'
        b'"output_index":1,"content_index":0,"part":{"type":"output_text","annotations":[],"text":""}}\n\n'
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1",'
        b'"output_index":1,"content_index":0,"delta":"Gr\xc3\xbc\xc3\x9f ","logprobs":[]}\n\n'
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1",'
        b'"output_index":1,"content_index":0,"delta":"\\ud83c\\udf0d","logprobs":[]}\n\n'
        b'event: response.output_text.done\ndata: {"type":"response.output_text.done","item_id":"msg_1",'
        b'"output_index":1,"content_index":0,"text":"Gr\xc3\xbc\xc3\x9f \\ud83c\\udf0d"}\n\n'
        b'event: response.output_item.done\ndata: {"type":"response.output_item.done","output_index":1,"item":'
        b'{"id":"msg_1","type":"message","status":"completed","content":[{"type":"output_text",'
        b'"text":"Gr\xc3\xbc\xc3\x9f \\ud83c\\udf0d"}],"role":"assistant"}}\n\n'
        b'event: response.output_item.added\ndata: {"type":"response.output_item.added","output_index":2,'
        b'"item":{"id":"fc_1","type":"function_call","status":"in_progress","arguments":"","call_id":"call_1",'
        b'"name":"read_file"}}\n\n'
        b'event: response.output_item.added\ndata: {"type":"response.output_item.added","output_index":3,'
        b'"item":{"id":"fc_2","type":"function_call","status":"in_progress","arguments":"","call_id":"call_2",'
        b'"name":"list_dir"}}\n\n'
        b'event: response.function_call_arguments.delta\ndata: {"type":"response.function_call_arguments.delta",'
        b'"item_id":"fc_1","output_index":2,"delta":"{\\"path\\":"}\n\n'
        b'event: response.function_call_arguments.delta\ndata: {"type":"response.function_call_arguments.delta",'
        b'"item_id":"fc_2","output_index":3,"delta":"{}"}\n\n'
        b'event: response.function_call_arguments.delta\ndata: {"type":"response.function_call_arguments.delta",'
        b'"item_id":"fc_1","output_index":2,"delta":" \\"a\\"}"}\n\n'
        b'event: response.function_call_arguments.done\ndata: {"type":"response.function_call_arguments.done",'
        b'"item_id":"fc_1","output_index":2,"arguments":"{\\"path\\": \\"a\\"}"}\n\n'
        b'event: response.output_item.done\ndata: {"type":"response.output_item.done","output_index":2,"item":'
        b'{"id":"fc_1","type":"function_call","arguments":"{\\"path\\": \\"a\\"}","call_id":"call_1",'
        b'"name":"read_file"}}\n\n'
        b'event: response.output_item.done\ndata: {"type":"response.output_item.done","output_index":3,"item":'
        b'{"id":"fc_2","type":"function_call","arguments":"{}","call_id":"call_2","name":"list_dir"}}\n\n'
        b'event: response.completed\ndata: {"type":"response.completed","sequence_number":30,"response":'
        b'{"id":"resp_1","object":"response","status":"completed","error":null,"incomplete_details":null,'
        b'"output":[{"id":"rs_1","type":"reasoning"},{"id":"msg_1","type":"message"}],"usage":{"input_tokens":36,'
        b'"input_tokens_details":{"cached_tokens":30,"cache_write_tokens":0},"output_tokens":87,'
        b'"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}}}\n\n'
    ),
    "openai, cut by the limit": (
        b'event: response.output_item.added\ndata: {"type":"response.output_item.added","output_index":0,'
        b'"item":{"id":"msg_1","type":"message","content":[]}}\n\n'
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1",'
        b'"output_index":0,"content_index":0,"delta":"Once"}\n\n'
        b'event: response.incomplete\ndata: {"type":"response.incomplete","response":{"status":"incomplete",'
        b'"incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":5,"output_tokens":16,'
        b'"total_tokens":21}}}\n\n'
    ),
    "llama.cpp": (
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_2","object":"response",'
        b'"status":"in_progress"}}\n\n'
        b'event: response.output_item.added\ndata: {"type":"response.output_item.added","item":{"content":[],'
        b'"id":"msg_2","role":"assistant","status":"in_progress","type":"message"}}\n\n'
        b'event: response.content_part.added\ndata: {"type":"response.content_part.added","item_id":"msg_2",'
        b'"part":{"type":"output_text","text":""}}\n\n'
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_2",'
        b'"delta":"Paris"}\n\n'
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_2",'
        b'"delta":"."}\n\n'
        b'event: response.output_text.done\ndata: {"type":"response.output_text.done","item_id":"msg_2",'
        b'"text":"Paris."}\n\n'
        b'event: response.output_item.done\ndata: {"type":"response.output_item.done","item":{"type":"message",'
        b'"status":"completed","id":"msg_2","content":[{"type":"output_text","annotations":[],"logprobs":[],'
        b'"text":"Paris."}],"role":"assistant"}}\n\n'
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_2",'
        b'"object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"message",'
        b'"id":"msg_2","content":[{"type":"output_text","text":"Paris."}]}],"usage":{"input_tokens":24,'
        b'"output_tokens":8,"total_tokens":32,"input_tokens_details":{"cached_tokens":23}}},"timings":{}}\n\n'
    ),
    "aimock": (
        b'event: response.output_item.added\r\ndata: {"type":"response.output_item.added","output_index":0,'
        b'"item":{"type":"reasoning","id":"rs-4","summary":[]}}\r\n\r\n'
        b'event: response.reasoning_summary_text.delta\r\ndata: {"type":"response.reasoning_summary_text.delta",'
        b'"item_id":"rs-4","output_index":0,"summary_index":0,"delta":"hm"}\r\n\r\n'
        b'event: response.output_item.done\r\ndata: {"type":"response.output_item.done","output_index":0,"item":'
        b'{"type":"reasoning","id":"rs-4","summary":[{"type":"summary_text","text":"hm"}],'
        b'"encrypted_content":"YWlt"}}\r\n\r\n'
        b'event: response.output_item.added\r\ndata: {"type":"response.output_item.added","output_index":1,"item":'
        b'{"type":"function_call","id":"fc-q","call_id":"call_W","name":"read_file","arguments":""}}\r\n\r\n'
        b'event: response.function_call_arguments.delta\r\ndata: {"type":"response.function_call_arguments.delta",'
        b'"item_id":"fc-q","output_index":1,"delta":"{\\"path\\":\\"a.txt\\"}"}\r\n\r\n'
        b'event: response.completed\r\ndata: {"type":"response.completed","response":{"status":"completed",'
        b'"output":[]}}\r\n\r\n'
    ),
}

OURS = {"provider": "acme"}

EXPECTED: dict[str, list[Delta]] = {
    "openai, reasoning and two tools": [
        ReasoningDelta("**Looking** around.\n\nReading."),
        ThinkingDelta(
            ThinkingBlock(
                "reasoning",
                "**Looking** around.\n\nReading.",
                payload={"id": "rs_1", "encrypted_content": "gAAwhole", **OURS},
            )
        ),
        TextDelta("Grüß 🌍"),
        ToolCallDelta(0, "call_1", "read_file"),
        ToolCallDelta(1, "call_2", "list_dir"),
        ToolCallDelta(0, arguments='{"path":'),
        ToolCallDelta(1, arguments="{}"),
        ToolCallDelta(0, arguments=' "a"}'),
        UsageDelta(Usage(36, 87, 123, 30, 64, 0)),
        Finished("tool_calls"),
    ],
    "openai, cut by the limit": [
        TextDelta("Once"),
        UsageDelta(Usage(5, 16, 21)),
        Finished("length"),
    ],
    "llama.cpp": [TextDelta("Paris."), UsageDelta(Usage(24, 8, 32, 23)), Finished("stop")],
    "aimock": [
        ReasoningDelta("hm"),
        ThinkingDelta(
            ThinkingBlock(
                "reasoning", "hm", payload={"id": "rs-4", "encrypted_content": "YWlt", **OURS}
            )
        ),
        ToolCallDelta(0, "call_W", "read_file"),
        ToolCallDelta(0, arguments='{"path":"a.txt"}'),
        Finished("tool_calls"),
    ],
}


def decoded(pieces: Iterable[bytes]) -> list[Delta]:
    """Decode a stream that must end properly."""
    events = EventStreamDecoder()
    decoder = ResponseDecoder(provider="acme")
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
    assembler.feed(decoded([RECORDED["openai, reasoning and two tools"]]))
    message = assembler.message()
    assert message.content == "Grüß 🌍"
    assert [block.kind for block in message.thinking] == ["reasoning"]
    assert message.tool_calls == (
        ToolCall("call_1", "read_file", '{"path": "a"}'),
        ToolCall("call_2", "list_dir", "{}"),
    )


# What services get wrong ----------------------------------------------------------------------


def fed(*payloads: dict[str, Any] | bytes, event: str = "message") -> list[Delta]:
    """Decode events without names, as some services send them."""
    decoder = ResponseDecoder(provider="acme")
    deltas: list[Delta] = []
    for payload in payloads:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        decoder.feed(raw, event, deltas)
    return deltas + decoder.end()


def said(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{type}", **fields}


def ended(status: str = "completed", **fields: Any) -> dict[str, Any]:
    return said(status, response={"status": status, **fields})


def text(delta: str, **where: Any) -> dict[str, Any]:
    return said("output_text.delta", delta=delta, **where)


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f"}


@pytest.mark.parametrize(
    ("status", "reason", "meant"),
    [
        ("completed", None, "stop"),
        ("incomplete", "max_output_tokens", "length"),
        ("incomplete", "max_messages", "length"),
        ("incomplete", None, "length"),
        ("incomplete", "content_filter", "content_filter"),
    ],
)
def test_what_a_response_ends_with_is_translated(
    status: str, reason: str | None, meant: FinishReason
) -> None:
    details = None if reason is None else {"reason": reason}
    assert fed(text("a"), ended(status, incomplete_details=details))[-1] == Finished(meant)


def test_calls_that_were_cut_off_are_not_taken_for_whole_ones() -> None:
    deltas = fed(said("output_item.added", item=CALL), ended("incomplete"))
    assert deltas[-1] == Finished("length")


def test_a_whole_response_is_an_answer() -> None:
    response = {
        "object": "response",
        "status": "completed",
        "error": None,
        "output": [
            {"type": "reasoning", "id": "rs", "summary": [{"text": "hm"}], "encrypted_content": "x"},
            {"type": "web_search_call", "id": "ws"},
            {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
            {**CALL, "arguments": '{"a":1}'},
            {**CALL, "id": "fc_2", "call_id": "call_2", "arguments": {"a": 2}},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }  # fmt: skip
    whole = [
        ReasoningDelta("hm"),
        ThinkingDelta(
            ThinkingBlock("reasoning", "hm", payload={"id": "rs", "encrypted_content": "x", **OURS})
        ),
        TextDelta("Hi"),
        ToolCallDelta(0, "call_1", "f"),
        ToolCallDelta(0, arguments='{"a":1}'),
        ToolCallDelta(1, "call_2", "f"),
        ToolCallDelta(1, arguments='{"a":2}'),
        UsageDelta(Usage(1, 2, 3)),
        Finished("tool_calls"),
    ]
    assert fed(response) == whole
    assert fed(said("completed", response=response)) == whole  # told at its end only


def test_items_that_come_whole_are_delivered_once() -> None:
    message = {"type": "message", "id": "msg", "content": [{"type": "refusal", "refusal": "No."}]}
    call = {**CALL, "arguments": "{}"}
    assert fed(
        said("output_item.done", output_index=0, item=message),
        said("output_item.added", output_index=1, item=call),
        said("function_call_arguments.done", output_index=1, arguments="{}"),
        said("output_item.done", output_index=1, item=call),
        ended(output=[message, call]),
    ) == [
        TextDelta("No."),
        ToolCallDelta(0, "call_1", "f"),
        ToolCallDelta(0, arguments="{}"),
        Finished("tool_calls"),
    ]


def test_items_without_index_and_id_are_told_apart_by_their_order() -> None:
    message = {"type": "message", "content": [{"text": "a"}]}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    other = {**call, "call_id": "2"}
    assert fed(
        said("output_item.added", item={"type": "message"}),
        text("a"),
        said("output_item.done", item=message),
        said("output_item.added", item={**call, "arguments": ""}),
        said("function_call_arguments.delta", delta="{}"),
        said("output_item.done", item=call),
        said("output_item.done", item=other),
        ended(),
    ) == [
        TextDelta("a"),
        ToolCallDelta(0, "1", "f"),
        ToolCallDelta(0, arguments="{}"),
        ToolCallDelta(1, "2", "f"),
        ToolCallDelta(1, arguments="{}"),
        Finished("tool_calls"),
    ]


def test_an_item_whose_id_changes_from_event_to_event_is_known_by_its_index() -> None:
    message = {"type": "message", "id": "c", "content": [{"text": "ab"}]}
    assert fed(
        said("output_item.added", output_index=0, item={"type": "message", "id": "a"}),
        text("a", output_index=0, item_id="b"),
        text("b", output_index=0, item_id="d"),
        said("output_item.done", output_index=0, item=message),
        ended(),
    ) == [TextDelta("a"), TextDelta("b"), Finished("stop")]


def test_text_of_an_item_that_was_never_added_is_not_lost_and_not_repeated() -> None:
    message = {"type": "message", "id": "a", "content": [{"text": "ab"}]}
    assert fed(
        text("a", item_id="a"),
        text("b", item_id="a"),
        said("output_item.done", output_index=0, item=message),
        ended(),
    ) == [TextDelta("a"), TextDelta("b"), Finished("stop")]


def test_two_messages_of_one_response_are_two_paragraphs() -> None:
    assert fed(
        said("output_item.added", output_index=0, item={"type": "message"}),
        text("I will look.", output_index=0),
        said("output_item.added", output_index=1, item={"type": "message"}),
        text("It is ", output_index=1),
        text("there.", output_index=1),
        ended(),
    ) == [
        TextDelta("I will look."),
        TextDelta("\n\nIt is "),
        TextDelta("there."),
        Finished("stop"),
    ]


def test_a_refusal_is_what_the_model_said() -> None:
    assert fed(said("refusal.delta", delta="I must not."), ended())[0] == TextDelta("I must not.")


def test_reasoning_in_the_open_is_kept_to_be_sent_back() -> None:
    item = {
        "type": "reasoning",
        "id": "rs",
        "summary": [],
        "encrypted_content": "",
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }
    assert fed(
        said("output_item.added", item={"type": "reasoning", "id": "rs"}),
        said("reasoning_text.delta", item_id="rs", delta="hm"),
        said("output_item.done", item=item),
        ended(),
    ) == [
        ReasoningDelta("hm"),
        ThinkingDelta(ThinkingBlock("reasoning", "hm", payload={"id": "rs", **OURS})),
        Finished("stop"),
    ]


def test_reasoning_of_which_only_a_summary_came_is_shown_and_not_kept() -> None:
    item = {"type": "reasoning", "id": "rs", "summary": [{"text": "hm"}]}
    assert fed(said("output_item.done", item=item), ended()) == [
        ReasoningDelta("hm"),
        Finished("stop"),
    ]


def test_reasoning_remembers_how_much_was_said_before_it() -> None:
    item = {"type": "reasoning", "id": "rs", "encrypted_content": "x"}
    deltas = fed(
        text("First."),
        said("output_item.added", item=CALL),
        said("output_item.done", item=item),
        ended(),
    )
    assert deltas[2] == ThinkingDelta(
        ThinkingBlock(
            "reasoning",
            payload={
                "id": "rs",
                "encrypted_content": "x",
                **OURS,
                "text_before": 6,
                "calls_before": 1,
            },
        )
    )


def test_null_is_tolerated_everywhere() -> None:
    item = dict.fromkeys(("id", "call_id", "name", "arguments", "content", "summary"))
    deltas = fed(
        said("output_item.added", item=None, output_index=None),
        said("output_item.done", item=None),
        *(said("output_item.added", item={**item, "type": t}) for t in (None, "message")),
        said("output_item.done", item={**item, "type": "reasoning"}),
        said("output_item.done", item={**item, "type": "function_call"}),
        said("output_text.delta", delta=None),
        said("function_call_arguments.delta", delta=None),
        said("function_call_arguments.done", arguments=None),
        said("reasoning_summary_part.added", summary_index=None),
        {},
        b"",
        said("completed", response=None),
    )
    assert deltas == [ToolCallDelta(0), Finished("tool_calls")]


def test_a_character_cut_between_two_events_is_put_together() -> None:
    first = b'{"type":"response.output_text.delta","delta":"a\\ud83d"}'
    second = b'{"type":"response.output_text.delta","delta":"\\ude00b"}'
    assert fed(first, second)[:2] == [TextDelta("a"), TextDelta("😀b")]
    assert fed(first)[:2] == [TextDelta("a"), TextDelta("\ufffd")]
    assert fed(second)[0] == TextDelta("\ufffdb")


def test_bytes_that_are_not_utf_8_cost_a_character_and_not_the_answer() -> None:
    payload = b'{"type":"response.output_text.delta","delta":"a\xf0\x9fb"}'
    assert fed(payload)[0] == TextDelta("a\ufffdb")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", ServiceUnavailable),
        ("vector_store_timeout", ServiceUnavailable),
        (None, ServiceUnavailable),
        ("a code of their own", ServiceUnavailable),
        ("rate_limit_exceeded", RateLimited),
        ("insufficient_quota", OutOfCredit),
        ("invalid_prompt", RequestRejected),
        ("bio_policy", RequestRejected),
        ("invalid_base64_image", RequestRejected),
        ("data_residency_mismatch", RequestRejected),
        ("context_length_exceeded", RequestRejected),
    ],
)
def test_an_error_has_its_class_and_words_wherever_it_is_reported(
    code: str | None, kind: type[ProviderError]
) -> None:
    error = {"code": code, "message": "slow down"}
    reports: list[tuple[dict[str, Any], str]] = [
        ({"type": "error", **error, "param": None}, "error"),
        ({"type": "error", **error, "param": None}, "message"),
        ({"type": "error", "error": error}, "message"),
        (said("failed", response={"status": "failed", "error": error}), "message"),
        ({"object": "response", "status": "failed", "error": error}, "message"),
        ({"error": error}, "message"),
    ]
    for report, name in reports:
        with pytest.raises(ProviderError, match=r"acme broke off its answer: slow down") as caught:
            fed(report, event=name)
        assert type(caught.value) is kind, report


@pytest.mark.parametrize(
    "report",
    [
        said("failed", response=None),
        said("failed", response={"status": "failed"}),
        said("completed", response={"status": "cancelled"}),
        {"object": "response", "status": "failed", "output": []},
    ],
    ids=repr,
)
def test_a_response_that_failed_without_a_word_is_no_answer(report: dict[str, Any]) -> None:
    with pytest.raises(ServiceUnavailable, match="the response was"):
        fed(text("a"), report)


def test_an_error_that_is_not_json_is_prose() -> None:
    with pytest.raises(ServiceUnavailable, match="upstream went away"):
        fed(b"upstream went away", event="error")


def test_a_response_that_is_only_queued_is_no_answer() -> None:
    assert fed({"object": "response", "status": "queued", "output": []}) == [Finished("unknown")]


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b'{"type":"response.output_text.delta","delta":"cut',
        b"[1]",
        b'"text"',
        b"null",
        b'{"type":"response.output_text.delta","delta":5}',
        b'{"type":"response.completed","response":[]}',
        b"[" * 100_000,
        b'{"error":' * 100_000,
    ],
    ids=range(9),
)
def test_what_is_not_part_of_a_response_is_malformed_and_shown(payload: bytes) -> None:
    with pytest.raises(MalformedStream, match="not part of a response") as caught:
        fed(payload)
    assert caught.value.body_excerpt[:5] == payload[:5].decode()


@pytest.mark.parametrize("name", ["response.created", "response.queued", "keepalive"])
def test_events_that_are_not_understood_are_not_even_decoded(name: str) -> None:
    assert fed(b"rubbish", event=name) == [Finished("unknown")]
    assert fed({"type": name, "delta": [1], "error": None}) == [Finished("unknown")]


def test_nothing_after_the_end_counts() -> None:
    assert fed(text("a"), ended(), b"rubbish", b"[DONE]") == [TextDelta("a"), Finished("stop")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
names = st.sampled_from(
    ["type", "item", "delta", "output_index", "response", "output", "status", "error", "content"]
)
types = st.sampled_from(
    [
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.completed",
        "function_call",
        "message",
        "reasoning",
    ]
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
