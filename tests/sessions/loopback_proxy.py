"""A way to a server that can be cut, or go silent; and that counts the round trips made on it."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

__all__ = ["LoopbackProxy", "open_proxy"]


@dataclass(eq=False)
class _Pair:
    client: socket.socket
    server: socket.socket
    asking: bool = False  # the last bytes came from the client
    held: bytes = b""  # for the client
    sockets: tuple[socket.socket, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.sockets = (self.client, self.server)


class LoopbackProxy:
    """Carries bytes between clients on a port of its own and one server.

    Attributes:
      port: Where to connect to.
      mode: "pass" carries everything. "silent" carries nothing and closes nothing, as a network does that swallows packets.
        "late" keeps what the server says until `deliver`.
      round_trips: How often a client spoke after the server had, since the count was last set to 0.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.mode: Literal["pass", "silent", "late"] = "pass"
        self.round_trips = 0
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._stopping = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def holds(self, part: bytes) -> bool:
        """Whether the server has said this since the mode was "late"."""
        with self._lock:
            return any(part in pair.held for pair in self._pairs)

    def deliver(self) -> None:
        """Hand over what was kept, each client's in one piece, and pass everything from now on."""
        with self._lock:
            for pair in self._pairs:
                pair.client.sendall(pair.held)
                pair.held = b""
            self.mode = "pass"

    def cut(self) -> None:
        """Close every connection, in both directions."""
        with self._lock:
            pairs = tuple(self._pairs)
        for pair in pairs:
            for end in pair.sockets:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is closed already

    def close(self) -> None:
        """Cut everything, and take no more."""
        self._stopping = True
        try:
            self._listening.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not everywhere; then the close ends it
        self._listening.close()
        self.mode = "pass"
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, server)
            with self._lock:
                self._pairs.add(pair)
            thread = threading.Thread(target=self._carry, args=(pair,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, pair: _Pair) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pair.client, selectors.EVENT_READ, pair.server)
            selector.register(pair.server, selectors.EVENT_READ, pair.client)
            try:
                while not self._stopping:
                    for key, _ in selector.select():
                        source, target = key.fileobj, key.data
                        assert isinstance(source, socket.socket)
                        received = source.recv(65536)
                        if not received:
                            return
                        if self.mode == "silent":
                            continue
                        if not self._is_held(pair, source, received):
                            target.sendall(received)
            except OSError:
                pass  # cut
            finally:
                with self._lock:
                    self._pairs.discard(pair)
                pair.client.close()
                pair.server.close()

    def _is_held(self, pair: _Pair, source: socket.socket, received: bytes) -> bool:
        asking = source is pair.client
        with self._lock:
            if self.mode == "late" and not asking:
                pair.held += received
                return True
            if asking and not pair.asking:
                self.round_trips += 1
            pair.asking = asking
            return False


@contextmanager
def open_proxy(url: str) -> Iterator[tuple[LoopbackProxy, str]]:
    """A proxy before the server of a URL, and the URL that leads through it."""
    parts = urlsplit(url)
    proxy = LoopbackProxy(parts.hostname or "127.0.0.1", parts.port or 5432)
    user, at, _ = parts.netloc.rpartition("@")
    through = parts._replace(netloc=f"{user}{at}127.0.0.1:{proxy.port}")
    try:
        yield proxy, urlunsplit(through)
    finally:
        proxy.close()
