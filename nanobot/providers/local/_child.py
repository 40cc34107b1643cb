"""The parent's end of the server process: its pipes, its log, its end.

No task stands behind it. The pipes carry one line, the log is a file, and the system remembers the exit status: each is
looked at when somebody wants to know.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

import msgspec
import trio
from msgspec import Struct

from ._server_process import ServerSettings

__all__ = ["ServerAddress", "ServerChild", "StartFailed", "start_child"]

_PROGRAM: Final = Path(__file__).with_name("_server_process.py")

_PATIENCE_S: Final = 1.0
"""How long the process may take to end after each request to: the end of its stdin, SIGTERM, SIGKILL. The first takes
milliseconds unless it is still reading the model."""

_LINE_BYTES: Final = 4096
"""The line with the address is 100 bytes long."""

_TAIL_BYTES: Final = 4096
_TAIL_CHARS: Final = 1000
"""A model file that cannot be read is explained in 700 characters."""

_LOG_PREFIX: Final = re.compile(r"^[\d.]+ [A-Z] ")
"""llama.cpp's time and level, as in `0.00.003.550 E `."""


class ServerAddress(Struct, frozen=True):
    """Where the server listens, and the key that it asks for."""

    url: str
    api_key: str

    def __repr__(self) -> str:  # may reach a log or a traceback
        return f"ServerAddress(url={self.url!r})"


class StartFailed(Exception):
    """The process did not come to serve. `log_tail` is the end of what it wrote, or ""."""

    def __init__(self, reason: str, log_tail: str = "") -> None:
        super().__init__(reason)
        self.log_tail = log_tail


class ServerChild:
    """One server process, made by `start_child`; whoever made it calls `aclose`."""

    def __init__(self, process: trio.Process, log: IO[bytes], start_timeout_s: float) -> None:
        assert process.stdin is not None  # both were asked for
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._log = log
        self._start_timeout_s = start_timeout_s
        self._deadline = trio.current_time() + start_timeout_s
        self._line = b""
        self._address: ServerAddress | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def address(self) -> ServerAddress:
        """Wait until the server listens. One caller at a time; a cancelled wait is continued by the next.

        Raises:
          StartFailed: It ended instead, or took longer than it may.
        """
        while self._address is None:
            with trio.CancelScope(deadline=self._deadline) as scope:
                received = await self._stdout.receive_some(_LINE_BYTES)
            if scope.cancelled_caught:
                limit = f"{self._start_timeout_s:g} s"
                raise StartFailed(f"it gave no address within {limit}", self.log_tail())
            self._line += received
            if not received or len(self._line) > _LINE_BYTES:
                await self.wait(within_s=_PATIENCE_S)
                raise StartFailed(self.ending(), self.log_tail())
            if self._line.endswith(b"\n"):
                self._address = self._address_from_line()
        return self._address

    async def wait(self, *, within_s: float) -> None:
        """Wait until the process has ended, but no longer than `within_s`."""
        with trio.move_on_after(within_s):
            await self._process.wait()

    def ending(self) -> str:
        """Say in a few words how the process ended."""
        status = self._process.returncode
        if status is None:
            return "it said something else than its address"
        if status >= 0:
            return f"it exited with status {status}"
        try:
            return f"it was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"it was ended by signal {-status}"

    def log_tail(self) -> str:
        """Return the end of what the process wrote to stderr, at most 1,000 characters; the cause comes first."""
        descriptor = self._log.fileno()
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(
            "utf-8", "replace"
        )
        lines = (_LOG_PREFIX.sub("", line).strip() for line in tail.splitlines())
        return "\n".join(line for line in lines if line)[-_TAIL_CHARS:]

    async def aclose(self) -> None:
        """End the process. Idempotent; when it returns, also when cancelled, the process and its files are gone."""
        with trio.CancelScope(shield=True):
            await self._stdin.aclose()
            await self._stdout.aclose()
            await self.wait(within_s=_PATIENCE_S)
            for insist in (self._process.terminate, self._process.kill):
                if self.running:
                    insist()
                    await self.wait(within_s=_PATIENCE_S)
        self._log.close()

    def _address_from_line(self) -> ServerAddress:
        try:
            return msgspec.json.decode(self._line, type=ServerAddress)
        except msgspec.DecodeError as exc:
            raise StartFailed(f"it did not give its address ({exc})", self.log_tail()) from exc


async def start_child(settings: ServerSettings, *, start_timeout_s: float) -> ServerChild:
    """Start the server process and return at once; `ServerChild.address` waits until it serves.

    Cancelled, it leaves nothing behind.

    Raises:
      StartFailed: There can be no process, or no file for its log.
    """
    if not sys.executable:
        raise StartFailed("there is no Python to run it with: sys.executable is empty")
    command = [sys.executable, "-P", os.fspath(_PROGRAM), json.dumps(settings._asdict())]
    try:
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `ServerChild.aclose`
    except OSError as exc:
        raise StartFailed(f"there can be no file for its log: {exc}") from exc
    try:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the parent, which may still want to finish an answer
        )
    except OSError as exc:
        log.close()
        raise StartFailed(f"{sys.executable!r} cannot be run: {exc}") from exc
    except BaseException:
        log.close()
        raise
    return ServerChild(process, log, start_timeout_s)
