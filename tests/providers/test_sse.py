"""The event stream decoder: what it yields never depends on how the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanobot.providers._sse import MAX_EVENT_BYTES, EventStreamDecoder, ServerSentEvent

RECORDED = (
    b"\xef\xbb\xbf: keep-alive\n\n"
    b'data: {"choices":[{"delta":{"content":"Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x8c\x8d"}}]}\n\n'
    b"event: ping\r\ndata: {}\r\n\r\n"
    b"id: 7\rdata:first\rdata: second\r\r"
    b"retry: 1500\ndata\n\n"
    b"event: nothing to dispatch\n\n"
    b"data: [DONE]\n\n"
)
EVENTS = [
    ServerSentEvent('{"choices":[{"delta":{"content":"Grüße 🌍"}}]}'.encode()),
    ServerSentEvent(b"{}", "ping"),
    ServerSentEvent(b"first\nsecond", id="7"),
    ServerSentEvent(b"", id="7"),
    ServerSentEvent(b"[DONE]", id="7"),
]


def decoded(
    pieces: list[bytes], *, limit: int = MAX_EVENT_BYTES
) -> tuple[list[ServerSentEvent], ServerSentEvent | None, bool]:
    decoder = EventStreamDecoder(max_event_bytes=limit)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events, decoder.end(), decoder.overflowed


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def test_a_recorded_stream_is_read_as_the_standard_says() -> None:
    assert decoded([RECORDED]) == (EVENTS, None, False)


def test_a_stream_cut_at_any_single_place_gives_the_same_events() -> None:
    for at in range(len(RECORDED) + 1):
        assert decoded([RECORDED[:at], RECORDED[at:]]) == (EVENTS, None, False), at


def test_a_stream_that_arrives_byte_by_byte_gives_the_same_events() -> None:
    assert decoded([bytes([byte]) for byte in RECORDED]) == (EVENTS, None, False)


lines = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"data",
        b" data: z",
        "data: é🌍".encode(),
        b"data: [DONE]",
        b": c",
        b"event: e",
        b"id: 1",
        b"id: \0",
        b"retry: 5",
        b"retry: x",
        b"unknown: y",
        b"\xef\xbb\xbfdata: bom",
        b"",
        b"",
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(
    st.lists(st.tuples(lines, ends)).map(lambda pairs: b"".join(line + end for line, end in pairs)),
    lines,
    st.lists(st.integers(min_value=0), max_size=12),
    st.integers(min_value=1, max_value=40),
)
@example(b"data: a\r\r", b"", [8], 40)
@example(b"data: a\r\n\r\n", b"\ndata", [8, 9, 10], 40)
def test_no_cut_changes_what_is_decoded(
    whole_lines: bytes, rest: bytes, cuts: list[int], limit: int
) -> None:
    stream = whole_lines + rest
    assert decoded(cut(stream, cuts), limit=limit) == decoded([stream], limit=limit)


@given(st.binary(), st.lists(st.integers(min_value=0), max_size=12))
def test_no_bytes_whatsoever_make_it_raise(stream: bytes, cuts: list[int]) -> None:
    assert decoded(cut(stream, cuts)) == decoded([stream])


@pytest.mark.parametrize(
    ("stream", "left"),
    [
        (b"data: a\n\n", None),
        (b"data: a\n\n: comment cut sh", None),
        (b"event: named\n", None),
        (b"data: [DONE]", ServerSentEvent(b"[DONE]")),
        (b"data: [DONE]\n", ServerSentEvent(b"[DONE]")),
        (b'event: e\ndata: {"cho', ServerSentEvent(b'{"cho', "e")),
        (b"data: a\ndata: b\nda", ServerSentEvent(b"a\nb")),
        (b"da", ServerSentEvent(b"")),
        (b"\xef\xbb\xbfdata: x", ServerSentEvent(b"x")),
    ],
)
def test_the_end_of_input_shows_an_event_that_was_cut_short(
    stream: bytes, left: ServerSentEvent | None
) -> None:
    assert decoded([stream])[1] == left


def test_a_byte_order_mark_is_not_part_of_the_first_line() -> None:
    stream = b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: not at the start\n\n"
    for at in range(len(stream)):
        assert decoded([stream[:at], stream[at:]])[0] == [ServerSentEvent(b"a")]


def test_the_server_says_how_long_to_wait_before_reconnecting() -> None:
    decoder = EventStreamDecoder()
    decoder.feed(b"retry: 1500\n\nretry: soon\n\n")
    assert decoder.retry_ms == 1500


def test_an_event_of_ten_megabytes_is_not_kept() -> None:
    decoder = EventStreamDecoder()
    assert decoder.feed(b"data: before\n\n") == [ServerSentEvent(b"before")]
    held = 0
    for _ in range(160):
        assert decoder.feed(b"x" * 65536) == []
        held = max(held, sum(map(len, decoder._partial)))
    assert decoder.overflowed
    assert held <= MAX_EVENT_BYTES
    assert decoder.feed(b"\n\ndata: after\n\n") == []
    assert decoder.end() is None


@pytest.mark.parametrize("line", [b"data:\n", b"data: x\n"])
def test_an_event_of_countless_short_lines_is_not_kept(line: bytes) -> None:
    decoder = EventStreamDecoder(max_event_bytes=1000)
    for _ in range(300):
        decoder.feed(line)
    assert decoder.overflowed
    assert decoder._data == []


def test_what_came_before_an_event_that_is_too_large_is_delivered() -> None:
    decoder = EventStreamDecoder(max_event_bytes=20)
    assert decoder.feed(b"data: a\n\ndata: " + b"x" * 30 + b"\n\ndata: b\n\n") == [
        ServerSentEvent(b"a")
    ]
    assert decoder.overflowed
