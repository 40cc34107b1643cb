"""Connections by address and by name: one lookup for a burst, and nobody is sent where nobody answers."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from nanobot.providers._dialer import Dialer

NAME = "service.example"


class Names(trio.abc.HostnameResolver):
    """Knows one name, and counts who asks for it. Addresses are its own matter, as they are Trio's everywhere else."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0
        self.answers = trio.Event()
        self.answers.set()

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: Any,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        assert host == NAME.encode()
        self.asked += 1
        await self.answers.wait()
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        tcp = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*tcp, (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for the name of an address")


def known(*addresses: str) -> Names:
    """Have this Trio run know one name."""
    names = Names(*addresses)
    trio.socket.set_custom_hostname_resolver(names)
    return names


@asynccontextmanager
async def listening(address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Somebody who takes connections; gives the port."""
    (listener,) = await trio.open_tcp_listeners(port, host=address)
    async with listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, _hold, [listener])
            yield int(listener.socket.getsockname()[1])
            nursery.cancel_scope.cancel()


async def _hold(stream: trio.SocketStream) -> None:
    await stream.receive_some(1)


async def peer_of(dialer: Dialer, host: str, port: int) -> str:
    with await dialer.open(host, port) as sock:
        assert sock.getblocking() is False
        return str(sock.getpeername()[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_gone_to_without_asking_anybody(host: str) -> None:
    names = known("127.0.0.1")
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this system has no IPv6")
    async with listening(host) as port:
        assert await peer_of(Dialer(), host, port) == host
    assert names.asked == 0


async def test_a_burst_looks_a_name_up_once(mock_clock: trio.testing.MockClock) -> None:
    names = known("127.0.0.1")
    names.answers = trio.Event()
    dialer, connected = Dialer(), 0

    async def one() -> None:
        nonlocal connected
        await peer_of(dialer, NAME, port)
        connected += 1

    async with listening() as port, trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        names.answers.set()
        # The clock stands still: nobody goes on because of their patience.
        until = time.monotonic() + 10
        while connected < 50 and time.monotonic() < until:
            await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert (connected, names.asked) == (50, 1)


async def test_what_answered_is_asked_anew_after_five_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names = known("127.0.0.1")
    dialer = Dialer()
    async with listening() as port:
        for pause, asked in [(0, 1), (4.9, 1), (0.2, 2), (0, 2)]:
            await trio.sleep(pause)
            await peer_of(dialer, NAME, port)
            assert names.asked == asked


@pytest.mark.skipif(os.name == "nt", reason="127.0.0.2 is an address of its own on Linux only")
async def test_who_does_not_answer_any_more_is_forgotten() -> None:
    names = known("127.0.0.1")
    dialer = Dialer()
    async with listening() as port:
        assert await peer_of(dialer, NAME, port) == "127.0.0.1"
    names.addresses = ()
    with pytest.raises(socket.gaierror):
        await dialer.open(NAME, port)
    assert not dialer._answered
    names.addresses = ("127.0.0.2",)
    async with listening("127.0.0.2", port):
        assert [await peer_of(dialer, NAME, port) for _ in range(3)] == ["127.0.0.2"] * 3
    assert names.asked == 3


async def test_a_cancelled_lookup_is_not_missed() -> None:
    names = known("127.0.0.1")
    names.answers = trio.Event()
    dialer = Dialer()
    async with listening() as port, trio.open_nursery() as nursery:
        first = trio.CancelScope()
        nursery.start_soon(_cancelled_by, first, peer_of, dialer, NAME, port)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(peer_of, dialer, NAME, port)
        await trio.testing.wait_all_tasks_blocked()
        assert names.asked == 1
        first.cancel()
        names.answers.set()
    assert names.asked == 2


async def _cancelled_by(scope: trio.CancelScope, function: Any, *args: Any) -> None:
    with scope:
        await function(*args)


async def test_a_name_that_nobody_has_is_an_error_for_each() -> None:
    known()
    dialer, failed = Dialer(), 0

    async def fail() -> None:
        nonlocal failed
        with pytest.raises(socket.gaierror):
            await dialer.open(NAME, 80)
        failed += 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(fail)
    assert failed == 5


async def test_where_nobody_listens_is_an_error_with_its_number() -> None:
    known("127.0.0.1")
    async with listening() as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        await Dialer().open("127.0.0.1", port)
    with pytest.raises(OSError, match="all attempts to connect"):
        await Dialer().open(NAME, port)


async def test_a_server_that_has_accepted_already_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(_sock: Any) -> None:
        raise AssertionError("it is connected")

    with socket.create_server(("127.0.0.1", 0)) as server:  # the system accepts in its name
        monkeypatch.setattr(trio.lowlevel, "wait_writable", never)
        assert await peer_of(Dialer(), *server.getsockname()) == "127.0.0.1"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="other systems refuse where Linux waits"
)
async def test_a_server_that_has_no_time_yet_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as others:
        address = server.getsockname()
        dialer = Dialer()
        others.enter_context(await dialer.open(*address))  # all that the queue has room for
        connected = False

        async def late() -> None:
            nonlocal connected
            assert await peer_of(dialer, *address) == "127.0.0.1"
            connected = True

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(late)
                await trio.testing.wait_all_tasks_blocked()
                assert not connected
                others.enter_context(server.accept()[0])
        assert connected


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list them")
async def test_cancels_leave_no_socket_open() -> None:
    known("127.0.0.1")
    async with listening() as port:
        before = descriptors()

        async def one(dialer: Dialer, host: str) -> None:
            with trio.move_on_after(random.uniform(0, 0.002)):
                await peer_of(dialer, host, port)

        for _ in range(20):
            dialer = Dialer()
            async with trio.open_nursery() as nursery:
                for host in (NAME, "127.0.0.1") * 5:
                    nursery.start_soon(one, dialer, host)
        await trio.testing.wait_all_tasks_blocked()
        assert not dialer._ahead
        assert descriptors() == before
