"""What goes over the wire, byte by byte: whole answers, and each way to spoil one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import ToolCall, Usage
from nanobot.testing import (
    GZIP_RUBBISH,
    HTML_PAGE,
    Answer,
    Cut,
    HttpResponse,
    HugeLine,
    MalformedEvent,
    Raise,
    RawResponse,
    SlowDrip,
    Stall,
)
from nanobot.testing._answer import ToolCallShorthand
from nanobot.testing._fault import CutBy, CutPoint, Fault
from nanobot.testing._playback import (
    Asked,
    HangUp,
    Pause,
    Playback,
    Send,
    playback,
    playback_template,
)

STREAM = Asked("m", stream=True)
WHOLE = Asked("m", stream=False)

HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"content-type: text/event-stream\r\n"
    b"cache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n"
    b"\r\n"
)
START = b'data: {"id":"chatcmpl-00000007","object":"chat.completion.chunk","created":1700000000,"model":"m",'


def event(choice: bytes) -> bytes:
    return START + b'"choices":[{"index":0,' + choice + b"}]}\n\n"


OPENING = event(b'"finish_reason":null,"delta":{"role":"assistant","content":""}')
ONE = event(b'"finish_reason":null,"delta":{"content":"one "}')
TWO = event(b'"finish_reason":null,"delta":{"content":"two "}')
SNOW = event('"finish_reason":null,"delta":{"content":"snow ☃ "}'.encode())
STOP = event(b'"finish_reason":"stop","delta":{}')
DONE = b"data: [DONE]\n\n"


def played(item: Answer | HttpResponse | RawResponse, asked: Asked = STREAM) -> Playback:
    return playback(item, asked, "00000007")


def framed(*events: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in events)


def send(*payloads: bytes) -> Send:
    return Send((b"".join(payloads),))


def body_of(step: Send | Pause | HangUp) -> Any:
    """The JSON of a complete response."""
    assert isinstance(step, Send)
    head, _, body = step.payload(b"").partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    return msgspec.json.decode(body)


def test_a_streamed_answer_is_one_write_of_events() -> None:
    whole = framed(OPENING, ONE, TWO, STOP, DONE)
    assert played(Answer("one two ")) == (send(HEAD, whole, b"0\r\n\r\n"),)


def test_usage_is_the_last_event_if_it_was_asked_for() -> None:
    asked = Asked("m", stream=True, include_usage=True)
    usage = START + (
        b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,'
        b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":5}}}\n\n'
    )
    whole = framed(OPENING, ONE, STOP, usage, DONE)
    answer = Answer("one ", usage=Usage(1, 2, 3, 4, 5))
    assert played(answer, asked) == (send(HEAD, whole, b"0\r\n\r\n"),)
    assert played(Answer("one ", usage=None), asked) == played(Answer("one "))


def test_tool_calls_come_as_id_and_name_first_and_arguments_in_pieces() -> None:
    first = event(
        b'"finish_reason":null,"delta":{"tool_calls":[{"index":0,"id":"call_00000007_0",'
        b'"type":"function","function":{"arguments":"","name":"f"}}]}'
    )
    more = event(
        b'"finish_reason":null,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"[1, "}}]}'
    )
    rest = event(
        b'"finish_reason":null,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"2]"}}]}'
    )
    stop = event(b'"finish_reason":"tool_calls","delta":{}')
    whole = framed(OPENING, first, more, rest, stop, DONE)
    assert played(Answer(tool_calls=[("f", "[1, 2]")])) == (send(HEAD, whole, b"0\r\n\r\n"),)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_has_the_name_that_the_service_gives_it(field: Any) -> None:
    thought = event(b'"finish_reason":null,"delta":{"%b":"Hm"}' % field.encode())
    (step,) = played(Answer("one ", reasoning="Hm", reasoning_field=field))
    assert step == send(HEAD, framed(OPENING, thought, ONE, STOP, DONE), b"0\r\n\r\n")
    (whole,) = played(Answer("one ", reasoning="Hm", reasoning_field=field), WHOLE)
    assert body_of(whole)["choices"][0]["message"][field] == "Hm"


def test_pauses_stand_where_the_script_says() -> None:
    answer = Answer("one two ", before_head_s=1, before_first_delta_s=2, between_deltas_s=3)
    assert played(answer) == (
        Pause(1),
        send(HEAD),
        Pause(2),
        send(framed(OPENING, ONE)),
        Pause(3),
        send(framed(TWO, STOP, DONE), b"0\r\n\r\n"),
    )
    *pauses, _ = played(answer, WHOLE)
    assert pauses == [Pause(1), Pause(5)]


def test_an_answer_in_one_piece_is_a_completion_object() -> None:
    calls: list[ToolCall | ToolCallShorthand] = [("f", {"a": 1}), ToolCall("mine", "g", "{")]
    (step,) = played(Answer(["Hel", "lo"], tool_calls=calls, usage=Usage(1, 2, 3)), WHOLE)
    assert body_of(step) == {
        "id": "chatcmpl-00000007",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "tool_calls": [
                        {
                            "id": "call_00000007_0",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a":1}'},
                        },
                        {
                            "id": "mine",
                            "type": "function",
                            "function": {"name": "g", "arguments": "{"},
                        },
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def test_without_text_the_content_is_null_and_without_usage_there_is_none() -> None:
    completion = body_of(played(Answer(usage=None), WHOLE)[0])
    assert completion["choices"][0]["message"]["content"] is None
    assert "usage" not in completion


@pytest.mark.parametrize("asked", [STREAM, WHOLE], ids=["stream", "whole"])
def test_a_service_that_stalls_before_the_head_sends_nothing(asked: Asked) -> None:
    assert played(Answer("one ", fault=Stall()), asked) == (Pause(math.inf),)
    late = Answer("one ", before_head_s=1, fault=Stall())
    assert played(late, asked) == (Pause(1), Pause(math.inf))


@pytest.mark.parametrize(
    ("after", "events"), [(0, [OPENING]), (1, [OPENING, ONE]), (9, [OPENING, ONE, TWO])]
)
def test_a_service_that_stalls_midway_keeps_silent_from_there(
    after: int, events: list[bytes]
) -> None:
    answer = Answer("one two ", fault=Stall(after))
    assert played(answer) == (send(HEAD, framed(*events)), Pause(math.inf))


@pytest.mark.parametrize("asked", [STREAM, WHOLE], ids=["stream", "whole"])
def test_a_cut_before_the_head_leaves_an_empty_response(asked: Asked) -> None:
    assert played(Answer("one ", fault=Cut(None)), asked) == (HangUp(),)
    assert played(Answer("one ", fault=Cut(None, by="reset")), asked) == (HangUp(reset=True),)


@pytest.mark.parametrize(
    ("at", "sent"),
    [
        ("between_events", b""),
        ("mid_event", SNOW[:-1]),
        ("mid_line", SNOW[: (len(SNOW) - 2) // 2]),
        ("mid_token", SNOW[: SNOW.index("☃".encode()) + 1]),
    ],
)
@pytest.mark.parametrize("by", ["close", "reset", "end_of_body"])
def test_a_cut_sends_so_much_of_the_next_event_and_ends(
    at: CutPoint, sent: bytes, by: CutBy
) -> None:
    answer = Answer(["one ", "snow ☃ "], fault=Cut(1, at=at, by=by))
    if by == "end_of_body":
        partial = framed(sent) if sent else b""
        assert played(answer) == (send(HEAD, framed(OPENING, ONE), partial, b"0\r\n\r\n"),)
    else:
        partial = b"%x\r\n" % len(SNOW) + sent if sent else b""
        assert played(answer) == (
            send(HEAD, framed(OPENING, ONE), partial),
            HangUp(reset=by == "reset"),
        )


def test_a_cut_in_mid_token_halves_a_token_of_plain_letters() -> None:
    (step, _) = played(Answer(["one ", "content"], fault=Cut(1, at="mid_token")))
    assert isinstance(step, Send)
    assert step.payload(b"").endswith(b'"delta":{"content":"con')


def test_a_cut_in_mid_token_finds_a_token_that_looks_like_the_json_around_it() -> None:
    (step, _) = played(Answer(["}}]}"], fault=Cut(0, at="mid_token")))
    assert isinstance(step, Send)
    assert step.payload(b"").endswith(b'"delta":{"content":"}}')


def test_a_cut_after_the_last_increment_keeps_the_end_of_the_answer_back() -> None:
    (step, _) = played(Answer("one ", fault=Cut(99, at="between_events")))
    assert step == send(HEAD, framed(OPENING, ONE))
    (step, _) = played(Answer("one ", fault=Cut(99, at="mid_token")))
    assert isinstance(step, Send)
    assert step.payload(b"").endswith(STOP[: (len(STOP) - 2) // 2])


@pytest.mark.parametrize("raw", [": keep-alive\n\n", b"\xff\xfe\n\n"], ids=["text", "bytes"])
def test_a_malformed_event_stands_between_two_good_ones(raw: str | bytes) -> None:
    inserted = raw.encode() if isinstance(raw, str) else raw
    (step,) = played(Answer("one two ", fault=MalformedEvent(raw)))
    assert step == send(HEAD, framed(OPENING, ONE, inserted, TWO, STOP, DONE), b"0\r\n\r\n")


def test_the_usual_malformed_event_is_json_that_breaks_off() -> None:
    (step,) = played(Answer("one ", fault=MalformedEvent()))
    assert isinstance(step, Send)
    line = step.payload(b"").split(b"\r\n")[-8].rstrip(b"\n")
    assert line.startswith(b"data: {")
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(line[len(b"data: ") :])


def test_a_huge_line_has_exactly_the_size_that_was_asked_for() -> None:
    (step,) = played(Answer("one two ", fault=HugeLine(5_000)))
    assert isinstance(step, Send)
    lines = step.payload(b"").split(b"\n")
    (huge,) = [line for line in lines if len(line) > 1_000]
    assert len(huge) == 5_000
    content = msgspec.json.decode(huge[len(b"data: ") :])["choices"][0]["delta"]["content"]
    assert set(content) == {"x"}
    without = step.payload(b"").replace(b"%x\r\n" % 5_002 + huge + b"\n\n\r\n", b"")
    assert without == HEAD + framed(OPENING, ONE, TWO, STOP, DONE) + b"0\r\n\r\n"


def test_a_slow_drip_sends_the_same_bytes_a_few_at_a_time() -> None:
    steps = played(Answer("one ", fault=SlowDrip(write_size=3, every_s=0.5)))
    assert steps[0] == send(HEAD)
    assert {step.seconds for step in steps if isinstance(step, Pause)} == {0.5}
    payloads = [step.payload(b"") for step in steps[1:] if isinstance(step, Send)]
    assert all(len(payload) <= 3 for payload in payloads)
    assert b"".join(payloads) == framed(OPENING, ONE, STOP, DONE) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("fault", "after"),
    [(Stall(1), Pause(math.inf)), (Cut(1), HangUp()), (Cut(1, by="reset"), HangUp(reset=True))],
    ids=str,
)
def test_an_answer_in_one_piece_is_spoiled_after_half_of_it(
    fault: Fault, after: Pause | HangUp
) -> None:
    (good,) = played(Answer("one "), WHOLE)
    assert isinstance(good, Send)
    response = good.payload(b"")
    body_size = len(response.partition(b"\r\n\r\n")[2])
    assert played(Answer("one ", fault=fault), WHOLE) == (
        send(response[: len(response) - body_size // 2]),
        after,
    )


def test_an_answer_in_one_piece_can_end_properly_and_be_incomplete() -> None:
    (step,) = played(Answer("one ", fault=Cut(1, by="end_of_body")), WHOLE)
    with pytest.raises(msgspec.DecodeError):
        body_of(step)


def test_an_answer_in_one_piece_can_be_malformed_huge_or_dripping() -> None:
    (step,) = played(Answer("one ", fault=MalformedEvent("{")), WHOLE)
    assert isinstance(step, Send)
    assert step.payload(b"").endswith(b"content-length: 1\r\n\r\n{")
    (step,) = played(Answer("one ", fault=HugeLine(10_000)), WHOLE)
    assert body_of(step)["choices"][0]["message"]["content"] == "x" * 10_000
    (good,) = played(Answer("one "), WHOLE)
    dripped = played(Answer("one ", fault=SlowDrip()), WHOLE)
    written = [step.payload(b"") for step in dripped if isinstance(step, Send)]
    assert isinstance(good, Send)
    assert b"".join(written) == good.payload(b"")
    assert max(map(len, written[1:])) == 1


@pytest.mark.parametrize("asked", [STREAM, WHOLE], ids=["stream", "whole"])
def test_a_response_is_sent_as_it_is_whatever_was_asked(asked: Asked) -> None:
    response = HttpResponse(429, "slow down", {"Retry-After": "30"})
    assert played(response, asked) == (
        send(
            b"HTTP/1.1 429 Too Many Requests\r\n"
            b"content-type: text/plain; charset=utf-8\r\n"
            b"content-length: 9\r\n"
            b"retry-after: 30\r\n\r\n"
            b"slow down"
        ),
    )


def test_a_response_may_come_late_and_with_a_status_that_nobody_knows() -> None:
    pause, step = played(HttpResponse(599, b"", before_head_s=2))
    assert pause == Pause(2)
    assert isinstance(step, Send)
    assert step.payload(b"").startswith(b"HTTP/1.1 599 Unknown\r\n")


def test_a_page_of_html_says_that_it_is_one() -> None:
    (step,) = played(HTML_PAGE)
    assert isinstance(step, Send)
    assert step.payload(b"").startswith(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\n"
    )


def test_gzip_rubbish_claims_an_encoding_that_it_has_not() -> None:
    (step,) = played(GZIP_RUBBISH)
    assert isinstance(step, Send)
    assert b"content-encoding: gzip\r\n" in step.payload(b"")
    assert b"content-type: text/event-stream\r\n" in step.payload(b"")
    assert step.payload(b"").endswith(b"this is not gzip")


def test_raw_bytes_are_followed_by_the_end_of_the_connection() -> None:
    assert played(RawResponse(b"\x16\x03")) == (send(b"\x16\x03"), HangUp())
    assert played(RawResponse(b"", reset=True)) == (HangUp(reset=True),)


@pytest.mark.parametrize("asked", [STREAM, WHOLE], ids=["stream", "whole"])
def test_a_fault_that_a_server_cannot_have_is_never_played(asked: Asked) -> None:
    with pytest.raises(AssertionError, match="cannot play"):
        played(Answer("one ", fault=Raise(ValueError("x"))), asked)


def answers() -> st.SearchStrategy[Answer]:
    return st.builds(
        Answer,
        text=st.text() | st.lists(st.text()),
        reasoning=st.text(),
        tool_calls=st.lists(st.tuples(st.text(), st.text() | st.just({"a": 1}))),
        usage=st.none() | st.just(Usage(1, 2, 3)),
        delta_size=st.none() | st.integers(1, 9),
        before_head_s=st.sampled_from([0.0, 0.5]),
        before_first_delta_s=st.sampled_from([0.0, 0.5]),
        between_deltas_s=st.sampled_from([0.0, 0.5]),
    )


@given(answer=answers(), stream=st.booleans(), number=st.integers(1, 0xFFFF_FFFF))
def test_a_template_plays_for_every_number_what_would_be_played_for_it(
    answer: Answer, stream: bool, number: int
) -> None:
    asked = Asked("m", stream, include_usage=True)
    plain = playback(answer, asked, f"{number:08x}")
    template = playback_template(answer, asked)
    assert list(bytes_and_pauses(template, number)) == list(bytes_and_pauses(plain, number))


def test_a_template_is_not_confused_by_text_that_looks_like_its_mark() -> None:
    answer = Answer("00000000 00000001 00000002")
    (step,) = playback_template(answer, STREAM)
    assert isinstance(step, Send)
    assert step.payload(b"00000007") == b"".join(
        one.payload(b"") for one in played(answer) if isinstance(one, Send)
    )


@given(answer=answers())
def test_the_same_script_gives_the_same_bytes(answer: Answer) -> None:
    again = msgspec.structs.replace(answer)
    assert again is not answer
    assert played(answer) == played(again)


@given(
    answer=answers(),
    at=st.sampled_from(["mid_event", "mid_line", "mid_token"]),
    after=st.integers(0, 9),
)
def test_a_cut_stream_is_a_prefix_of_the_whole_one(
    answer: Answer, at: CutPoint, after: int
) -> None:
    whole = b"".join(
        part for part in bytes_and_pauses(played(answer), 7) if isinstance(part, bytes)
    )
    cut = msgspec.structs.replace(answer, fault=Cut(after, at=at))
    sent = b"".join(part for part in bytes_and_pauses(played(cut), 7) if isinstance(part, bytes))
    assert whole.startswith(sent)
    assert len(sent) < len(whole)


def bytes_and_pauses(steps: Playback, number: int) -> Iterator[bytes | float]:
    for step in steps:
        if isinstance(step, Send):
            yield step.payload(b"%08x" % number)
        elif isinstance(step, Pause):
            yield step.seconds
