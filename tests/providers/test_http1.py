"""Reading responses: cut anywhere they are the same, and what h11 reads in them is what we read."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers._http1 import (
    RequestError,
    ResponseHead,
    ResponseReader,
    encode_head,
)
from nanobot.providers._transport_errors import NotHTTP

OK = b"HTTP/1.1 200 OK\r\n"

RESPONSES = {
    "length": OK + b"Content-Length: 5\r\nX-A: one\r\nx-a:  two \r\n\r\nhello",
    "nothing": OK + b"Content-Length: 0\r\n\r\n",
    "chunks": OK
    + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00B;ext=1\r\n, my wor\nld\r\n0\r\n\r\n",
    "trailers": OK
    + b"transfer-encoding: Chunked\r\n\r\n1 \r\na\r\n0\r\nSum: 1\r\nOther: x\r\n\r\n",
    "to the end": OK + b"Connection: keep-alive\r\n\r\nall that comes",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + OK
    + b"Content-Length: 1\r\n\r\n!",
    "close": OK + b"Connection: x, Close\r\nContent-Length: 1\r\n\r\n!",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n!",
    "no reason": b"HTTP/1.1 429\r\nContent-Length: 1\r\n\r\n!",
    "empty reason": b"HTTP/1.1 429 \r\nContent-Length: 1\r\n\r\n!",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 1\nA: b\n\n!",
    "folded": OK + b"A: b\r\n  c\r\n\td\r\nContent-Length: 1\r\n\r\n!",
    "empty value": OK + b"A:\r\nContent-Length: 1\r\n\r\n!",
    "latin": OK + b"A: caf\xe9\r\nContent-Length: 1\r\n\r\n!",
    "lengths that agree": OK + b"Content-Length: 1, 1\r\nContent-Length: 1\r\n\r\n!",
}

BROKEN = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a web page": b"<html>\n\n</html>",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "no header": OK + b"no colon\r\n\r\n",
    "a blank before the colon": OK + b"A : b\r\n\r\n",
    "a folded first line": OK + b" A: b\r\n\r\n",
    "a zero": OK + b"A: b\0c\r\n\r\n",
    "a lone return": OK + b"A: b\rc\r\n\r\n",
    "lengths that differ": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n!!",
    "a negative length": OK + b"Content-Length: -1\r\n\r\n",
    "a length in words": OK + b"Content-Length: one\r\n\r\n",
    "a length without end": OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "a chunk without size": OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
    "a negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a chunk with a plus": OK + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n",
    "a chunk with a line feed": OK + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n",
    "a chunk that is too long": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    "an endless chunk line": OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 10_000,
    "an endless head": OK + b"A: " + b"b" * 70_000,
    "endless trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000,
    "an endless trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"b" * 10_000,
}


class Read:
    """What a reader made of pieces."""

    def __init__(self, pieces: list[bytes], *, hung_up: bool = False) -> None:
        self.reader = ResponseReader()
        self.head: ResponseHead | None = None
        self.body = b""
        for piece in pieces:
            if self.head is not None:
                self.body += self.reader.receive_body(piece)
            elif (head := self.reader.receive_head(piece)) is not None:
                self.head = head
                self.body += self.reader.receive_body()
        if hung_up:
            self.reader.receive_end()


def h11s(received: bytes) -> tuple[int, dict[str, str], bytes, bool]:
    """Status, headers, body, and whether the connection can be used again, as h11 reads them."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(received)
    status, headers, body = 0, dict[str, str](), b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(b"")
        elif isinstance(event, h11.Response):
            status = event.status_code
            for name, value in event.headers:
                known, text = name.decode(), value.decode("latin-1")
                headers[known] = f"{headers[known]}, {text}" if known in headers else text
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, headers, body, connection.their_state is h11.DONE


@pytest.mark.parametrize("name", RESPONSES)
def test_h11_reads_the_same(name: str) -> None:
    received = RESPONSES[name]
    hung_up = name == "to the end"
    read = Read([received], hung_up=hung_up)
    assert read.head is not None
    assert read.reader.complete
    status, headers, body, reusable = h11s(received)
    ours = dict(read.head.headers)
    if name in ("lengths that agree", "trailers"):  # h11 joins the one and lowers the other
        headers["content-length" if "content-length" in headers else "transfer-encoding"] = ours[
            "content-length" if "content-length" in ours else "transfer-encoding"
        ]
    assert (read.head.status, ours, read.body) == (status, headers, body)
    # that a connection which was hung up on is of no use, h11 leaves to its owner
    assert read.reader.reusable == (reusable and not hung_up)


@pytest.mark.parametrize("name", RESPONSES)
@given(data=st.data())
def test_it_makes_no_difference_where_bytes_are_cut(name: str, data: st.DataObject) -> None:
    received = RESPONSES[name]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(received)))) | {0, len(received)})
    whole = Read([received])
    read = Read([received[a:b] for a, b in pairwise(cuts)])
    assert read.head == whole.head
    assert read.body == whole.body
    assert read.reader.complete == whole.reader.complete
    assert read.reader.reusable == whole.reader.reusable


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("size", [1, 1 << 20], ids=["bytes", "whole"])
def test_what_is_not_http_is_refused_however_it_comes(name: str, size: int) -> None:
    received = BROKEN[name]
    with pytest.raises(NotHTTP):
        read = Read([received[at : at + size] for at in range(0, len(received), size)])
        read.reader.receive_body(b"\r\n")


@given(st.binary(max_size=200), st.sampled_from(sorted(RESPONSES)), st.integers(0, 200))
def test_damage_is_refused_or_read_but_nothing_else_is_raised(
    damage: bytes, name: str, at: int
) -> None:
    received = RESPONSES[name]
    with suppress(NotHTTP):
        Read([received[:at] + damage + received[at + len(damage) :]], hung_up=True)


@given(st.lists(st.binary(min_size=1, max_size=70), max_size=8), st.data())
def test_any_chunks_come_out_as_they_went_in(chunks: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=6)) | {0, len(sent)})
    pieces = [sent[a:b] for a, b in pairwise(cuts)]
    read = Read([OK + b"Transfer-Encoding: chunked\r\n\r\n", *pieces])
    assert read.body == b"".join(chunks)
    assert read.reader.reusable


@pytest.mark.parametrize("name", sorted(RESPONSES.keys() - {"to the end"}))
def test_bytes_behind_the_end_are_kept_out_and_end_the_connection(name: str) -> None:
    read = Read([RESPONSES[name] + b"more"])
    assert read.body == Read([RESPONSES[name]]).body
    assert read.reader.complete
    assert read.reader.has_more
    assert not read.reader.reusable


def test_what_came_before_the_damage_is_returned_first() -> None:
    reader = ResponseReader()
    reader.receive_head(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    assert reader.receive_body(b"5\r\nhello\r\n?") == b"hello"
    for _ in range(2):
        with pytest.raises(NotHTTP, match="size"):
            reader.receive_body(b"1\r\na\r\n")
    with pytest.raises(NotHTTP, match="size"):
        reader.receive_end()


@pytest.mark.parametrize("name", ["length", "chunks", "trailers"])
def test_a_server_that_hangs_up_early_is_found_out(name: str) -> None:
    received = RESPONSES[name]
    for end in range(received.index(b"\r\n\r\n") + 4, len(received)):
        with pytest.raises(NotHTTP, match="closed the connection before the end"):
            Read([received[:end]], hung_up=True)


def test_a_response_to_head_has_no_body() -> None:
    reader = ResponseReader()
    assert reader.receive_head(RESPONSES["length"][:-5], bodyless=True) is not None
    assert reader.reusable


def test_both_framings_at_once_are_read_as_chunks_and_end_the_connection() -> None:
    head = OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    read = Read([head + b"1\r\na\r\n0\r\n\r\n"])
    assert read.body == b"a"
    assert read.reader.complete
    assert not read.reader.reusable


# What is sent ---------------------------------------------------------------------------------


def test_a_head_is_what_h11_would_write() -> None:
    headers = [(b"host", b"a.example"), (b"x-key", b"caf\xe9 \t!"), (b"empty", b"")]
    theirs = h11.Connection(h11.CLIENT).send(
        h11.Request(method="POST", target="/a?b=c", headers=headers)
    )
    assert encode_head(b"POST", b"/a?b=c", headers) + b"\r\n" == theirs


@pytest.mark.parametrize(
    ("method", "target", "name", "value"),
    [
        (b"PO ST", b"/", b"a", b"b"),
        (b"", b"/", b"a", b"b"),
        (b"POST", b"/ HTTP/1.1\r\nx:", b"a", b"b"),
        (b"POST", b"", b"a", b"b"),
        (b"POST", b"/", b"a:", b"b"),
        (b"POST", b"/", b"", b"b"),
        (b"POST", b"/", b"a", b"canary\r\nb: c"),
        (b"POST", b"/", b"a", b"canary\n"),
        (b"POST", b"/", b"a", b"canary\0"),
        (b"POST", b"/", b"a", b" canary"),
        (b"POST", b"/", b"a", b"canary "),
    ],
)
def test_what_would_be_read_otherwise_is_not_written(
    method: bytes, target: bytes, name: bytes, value: bytes
) -> None:
    with pytest.raises(RequestError) as caught:
        encode_head(method, target, [(name, value)])
    assert not re.search("canary", str(caught.value))
