"""A model service that costs as little as can be, so that what is measured is whoever asks it.

It speaks just enough HTTP/1.1 and OpenAI chat completions for the clients of these benchmarks: one process, one loop, answers
made of prepared bytes. What it does is in the path, as in `/deltas=200,pace=0.02/v1/chat/completions`:

    deltas   how many text deltas an answer has (8)
    delay    seconds before an answer begins (0)
    pace     seconds between two deltas; 0 sends all of them at once (0)
    tool     name of a tool that is called first; the answer comes when its result is there

`GET /connections` tells how many clients wait for the end of an answer, and when those that did not wait for it had closed
their connection, since it was asked last; what CPU time the service has used; and how long the body of the last request
was. With `pace`, the first delta says when it was written. Moments are seconds of the
monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

__all__ = ["connections", "cpu_seconds", "fast_model"]

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
_CHUNKED = _HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n"
_ARGUMENTS = "{}"


@contextmanager
def fast_model(core: int | None = -1) -> Iterator[str]:
    """Run the service in a process of its own, on a core of its own if there are two; gives its root URL."""
    command = [sys.executable, str(Path(__file__)), "" if core is None else str(core)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.stdin.close()


def connections(root: str) -> dict[str, Any]:
    """What the service says of its connections, and of itself."""
    with urlopen(f"{root}/connections") as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def cpu_seconds(root: str) -> float:
    """The CPU time that the service has used so far."""
    return float(connections(root)["cpu_s"])


_waiting: set[_Model] = set()
_closed: list[float] = []
"""When connections were closed by clients that had not got their whole answer."""


class _Model(asyncio.Protocol):
    body_bytes: ClassVar[int] = 0
    """How long the last request for an answer was."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""
        self._needed = 0

    def connection_lost(self, exc: Exception | None) -> None:
        if self in _waiting:
            _closed.append(time.monotonic())
            _waiting.remove(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= self._needed:
            head, found, body = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(body) < length:
                self._needed = len(head) + 4 + length
                return
            self._received, self._needed = body[length:], 0
            self._answer(head, body[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path == b"/connections":
            found = {"waiting": len(_waiting), "closed": _closed, "cpu_s": time.process_time()}
            found["body_bytes"] = _Model.body_bytes
            self._transport.write(_json(found))
            _closed.clear()
            return
        _Model.body_bytes = len(body)
        profile = _profile(path)
        _waiting.add(self)
        said = body.replace(b'": "', b'":"') if profile.tool else b""
        call = bool(profile.tool) and said.rfind(b'"role":"tool"') <= said.rfind(b'"role":"user"')
        streams = b'"stream":true' in body or b'"stream": true' in body
        if profile.delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(profile.delay_s, self._send, profile, call, streams)
        else:
            self._send(profile, call, streams)

    def _send(self, profile: _Profile, call: bool, streams: bool) -> None:
        if self._transport.is_closing():
            return
        if not profile.pace_s or call:
            _waiting.discard(self)
        if not streams:
            self._transport.write(profile.whole_call if call else profile.whole)
        elif call:
            self._transport.write(profile.streamed_call)
        elif profile.pace_s:
            self._transport.write(_CHUNKED)
            self._drip(profile, 0)
        else:
            self._transport.write(profile.streamed)

    def _drip(self, profile: _Profile, sent: int) -> None:
        if self._transport.is_closing():
            return
        if sent == profile.deltas:
            _waiting.discard(self)
            self._transport.write(profile.end)
            return
        text = f"{time.monotonic():.6f} " if sent == 0 else "hello "
        self._transport.write(_chunk(_event({"content": text})))
        asyncio.get_running_loop().call_later(profile.pace_s, self._drip, profile, sent + 1)


class _Profile:
    """What one path asks for, as bytes that are ready to be sent."""

    def __init__(self, wishes: dict[str, str]) -> None:
        self.deltas = int(wishes.get("deltas", 8))
        self.delay_s = float(wishes.get("delay", 0))
        self.pace_s = float(wishes.get("pace", 0))
        self.tool = wishes.get("tool", "")
        first = _event({"role": "assistant", "content": ""})
        text = b"".join(_event({"content": "hello "}) for _ in range(self.deltas))
        closing = _event({}, "stop") + b"data: [DONE]\n\n"
        self.streamed = _CHUNKED + _chunk(first + text + closing) + b"0\r\n\r\n"
        self.end = _chunk(closing) + b"0\r\n\r\n"
        self.whole = _whole({"role": "assistant", "content": "hello " * self.deltas}, "stop")
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": self.tool, "arguments": _ARGUMENTS},
        }
        self.whole_call = _whole(
            {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        )
        events = _event({"role": "assistant", "tool_calls": [{"index": 0, **call}]})
        events += _event({}, "tool_calls") + b"data: [DONE]\n\n"
        self.streamed_call = _CHUNKED + _chunk(events) + b"0\r\n\r\n"


@cache
def _profile(path: bytes) -> _Profile:
    first = path.decode().lstrip("/").partition("/")[0]
    return _Profile(dict(wish.split("=", 1) for wish in first.split(",") if "=" in wish))


_USAGE = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}


def _event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    if finish_reason is not None:
        body["usage"] = _USAGE
    return b"data: %b\n\n" % json.dumps(body, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole(message: dict[str, Any], finish_reason: str) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": _USAGE,
    }
    return _json(body)


def _json(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return _HEAD % b"application/json" + b"Content-Length: %d\r\n\r\n%b" % (len(data), data)


async def _serve(core: str) -> None:
    if core and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(core) % len(cores)]})
    with suppress(ImportError):
        import resource  # deferred: not on Windows

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Model, "127.0.0.1", 0, backlog=16_384)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the benchmark goes away


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
