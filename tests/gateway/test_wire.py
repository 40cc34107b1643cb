"""Frames on a socket: whole, in order, whatever the library sends in between and however slowly they are taken."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from nanobot.gateway._wire import Wire, text_frame

PATIENCE_S = 20.0


@given(
    st.lists(
        st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 65_535, 65_536])), max_size=5
    )
)
def test_a_client_library_reads_our_frames(sizes: list[int]) -> None:
    payloads = [b"x" * size for size in sizes]
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(b"".join(text_frame(payload) for payload in payloads))
    frames = [*client.received_frames()]
    assert all(frame.opcode is Opcode.TEXT for frame in frames)
    assert "".join(str(frame.payload) for frame in frames) == "x" * sum(sizes)
    assert sum(frame.message_finished for frame in frames) == len(sizes)


async def test_what_the_kernel_does_not_take_at_once_is_sent_later_and_nothing_gets_between() -> (
    None
):
    async with pair() as (wire, client), trio.open_nursery() as nursery:
        big, pong = b"b" * 3_000_000, b"p" * 10
        sent = []

        async def send_frames() -> None:
            sent.append(await wire.send_frames(big, timeout_s=PATIENCE_S))

        nursery.start_soon(send_frames)
        await trio.testing.wait_all_tasks_blocked()
        for send in (partial(wire.send_all, pong), send_frames):
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()  # or they would come in any order
        received = bytearray()
        while len(received) < 2 * len(big) + len(pong):
            received += await client.receive_some()
        assert received == big + pong + big
    assert sent == [True, True]


async def test_a_client_that_takes_nothing_is_told_from_one_that_is_slow() -> None:
    async with pair() as (wire, _):
        assert not await wire.send_frames(b"b" * 3_000_000, timeout_s=0.05)
    async with pair() as (wire, _), trio.open_nursery() as nursery:
        nursery.start_soon(wire.send_all, b"b" * 3_000_000)  # the library has the socket
        await trio.testing.wait_all_tasks_blocked()
        assert not await wire.send_frames(b"x", timeout_s=0.05)
        nursery.cancel_scope.cancel()


async def test_a_socket_that_was_closed_is_not_written_to_though_its_number_is_in_use_again() -> (
    None
):
    async with pair() as (wire, _):
        await wire.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await wire.send_frames(b"x", timeout_s=1)
    async with pair() as (wire, client):
        await client.aclose()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await wire.send_frames(b"x" * 1000, timeout_s=1)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Wire, trio.SocketStream]]:
    """Two ends of one connection with small buffers."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (ours, theirs)]
    for end in (ours, theirs):
        end.setblocking(False)
    try:
        yield Wire(streams[0], trio.CapacityLimiter(1)), streams[1]
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)
