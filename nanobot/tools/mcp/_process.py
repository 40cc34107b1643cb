"""A server's process: gone with everything it started, whatever becomes of us."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from nanobot.config import McpServer, expanded

from .._kept import Kept, start_kept
from .._threads import in_file_thread
from ._session import ServerFailed

__all__ = ["ServerProcess", "environment_of", "start_process"]

_INHERITED: Final = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
)  # fmt: skip
"""What a server sees of our environment. The rest, keys of model services above all, is not its business; what it needs
is in its `env`."""

_GRACE_S: Final = 0.3
"""How long a server may take to end when its stdin has ended, before it gets SIGTERM, which leaves it 0.2 s more. Node and
Python servers at rest end within 0.1 s, and closing a bot is to take less than a second."""

_SAID_BYTES: Final = 2000
"""How much of the end of stderr is kept: a traceback's last lines."""


class ServerProcess:
    """A running server; made by `start_process`, whoever made it calls `aclose`."""

    def __init__(self, kept: Kept) -> None:
        assert kept.stdin is not None  # it was asked for
        self.stdin: Final = kept.stdin
        self.stdout: Final = kept.stdout
        self._kept = kept
        self._said: deque[bytes] = deque()
        self._silent = trio.Event()

    async def listen(self) -> None:
        """Read stderr until it ends, so that the server never waits for a reader; keep its last words."""
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while piece := bytes(await self._kept.stderr.receive_some()):
                    self._said.append(piece[-_SAID_BYTES:])
                    while sum(map(len, self._said)) - len(self._said[0]) >= _SAID_BYTES:
                        self._said.popleft()
        finally:
            self._silent.set()

    async def wait_ended(self) -> None:
        """Return when the process has ended, and with it what it started."""
        await self._kept.wait()

    async def ending(self) -> ServerFailed:
        """Say how the process ended, which it has, or is about to."""
        with trio.move_on_after(_GRACE_S):
            await self._kept.wait()
            await self._silent.wait()
        said = b"".join(self._said)[-_SAID_BYTES:].decode("utf-8", "replace").strip()
        return ServerFailed(_ending(self._kept.status), said)

    async def aclose(self) -> None:
        """End the process and all that it started. When this returns, also when cancelled, they are gone."""
        with trio.CancelScope(shield=True):
            await self.stdin.aclose()
            with trio.move_on_after(_GRACE_S):
                await self._kept.wait()
            await self._kept.aclose()


async def start_process(server: McpServer, env: Mapping[str, str]) -> ServerProcess:
    """Start a server's program. Cancelled, it leaves nothing behind.

    Raises:
      ServerFailed: It cannot be started.
    """
    environment = environment_of(server, env)
    folder = expanded(server.cwd, env) if server.cwd else None
    try:
        await in_file_thread(lambda: _look_for(server.command, folder, environment.get("PATH")))
        kept = await start_kept(
            [server.command, *server.args], folder=folder, environment=environment, reads=True
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ServerFailed(f"`{server.command}` cannot be started: {reason}") from error
    return ServerProcess(kept)


def _look_for(command: str, folder: Path | None, path: str | None) -> None:
    """Say now what the program's keeper could only write to stderr.

    Raises:
      OSError: There is no such program, or it may not be run.
    """
    if "/" in command or os.sep in command:
        found = Path(folder or ".", command)
        if not found.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not os.access(found, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    elif shutil.which(command, path=path) is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such program on its PATH")


def environment_of(server: McpServer, env: Mapping[str, str]) -> dict[str, str]:
    """What a server sees: the ordinary of our environment, and its own settings over that."""
    return {name: env[name] for name in _INHERITED if name in env} | dict(server.env)


def _ending(status: int | None) -> str:
    if status is None:
        return "it closed its output, though it still runs"
    if status > 128:  # as shells say it
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(status - 128).name}"
    return f"it exited with status {status}"
