"""Requests out of bytes: the same however the bytes are cut, and a refusal for everything that is none."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.testing._http import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    BadRequest,
    HttpRequest,
    RequestReader,
)

POST = (
    b"POST /v1/chat/completions?x=1 HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8000\r\n"
    b"Content-Length: 4\r\n"
    b"X-Many: a\r\n"
    b"x-many:\t b \r\n"
    b"\r\n"
    b"\x00\r\n\xff"
)
GET = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Close\r\n\r\n"

PARSED = [
    HttpRequest(
        "POST",
        "/v1/chat/completions?x=1",
        {"host": "127.0.0.1:8000", "content-length": "4", "x-many": "a, b"},
        b"\x00\r\n\xff",
        keep_alive=True,
    ),
    HttpRequest(
        "GET",
        "/health",
        {"host": "a", "connection": "keep-alive, Close"},
        b"",
        keep_alive=False,
    ),
]


def read(*pieces: bytes) -> list[HttpRequest]:
    reader = RequestReader()
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (request := reader.next_request()) is not None:
            found.append(request)
    return found


def test_requests_are_read_one_after_the_other() -> None:
    assert read(POST + GET) == PARSED


@pytest.mark.parametrize("cut", range(len(POST + GET) + 1))
def test_it_does_not_matter_where_the_bytes_are_cut(cut: int) -> None:
    whole = POST + GET
    assert read(whole[:cut], whole[cut:]) == PARSED


@given(cuts=st.lists(st.integers(0, len(POST + GET))))
def test_it_does_not_matter_how_often_the_bytes_are_cut(cuts: list[int]) -> None:
    whole = POST + GET
    edges = pairwise([0, *sorted(cuts), len(whole)])
    assert read(*(whole[start:end] for start, end in edges)) == PARSED


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\r\n\r\n", 400),  # TLS
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1_0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ²\r\n\r\n".encode("latin-1"), 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD_BYTES, 431),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_what_is_no_request_is_refused(request_bytes: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        read(request_bytes)
    assert caught.value.status == status
    assert str(caught.value)


@given(noise=st.binary(max_size=300))
def test_noise_is_refused_or_waits_for_more(noise: bytes) -> None:
    found: list[HttpRequest] = []
    with contextlib.suppress(BadRequest):
        found = read(noise + b"\r\n\r\n")
    assert found == []


def test_a_client_that_never_waits_for_answers_is_refused() -> None:
    reader = RequestReader()
    megabyte = bytes(1_000_000)
    with pytest.raises(BadRequest, match="ahead of the answers"):
        for _ in range(100):
            reader.feed(megabyte)


def test_a_client_that_asks_before_it_sends_is_told_once_to_go_on() -> None:
    reader = RequestReader()
    assert not reader.take_continue()
    reader.feed(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
    assert reader.next_request() is None
    assert reader.take_continue()
    assert not reader.take_continue()
    reader.feed(b"ok")
    request = reader.next_request()
    assert request is not None
    assert request.body == b"ok"


def test_a_client_that_asks_before_each_body_is_told_each_time() -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    reader = RequestReader()
    for _ in range(2):
        reader.feed(head)
        assert reader.next_request() is None
        assert reader.take_continue()
        reader.feed(b"ok")
        assert reader.next_request() is not None


def test_a_client_that_sends_its_body_anyway_is_not_told_to() -> None:
    reader = RequestReader()
    reader.feed(
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\nok"
    )
    assert reader.next_request() is not None
    assert not reader.take_continue()
