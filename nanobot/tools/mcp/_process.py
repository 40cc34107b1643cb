"""A server's process: started in a group of its own, and gone with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from typing import Final

import trio

from nanobot.config import McpServer, expanded

from ._session import ServerFailed

__all__ = ["ServerProcess", "environment_of", "start_process"]

_INHERITED: Final = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
)  # fmt: skip
"""What a server sees of our environment. The rest, keys of model services above all, is not its business; what it needs
is in its `env`."""

_GRACE_S: Final = 0.3
"""How long a server may take to end after each request to: the end of its stdin, SIGTERM. Then its group is killed. Node
and Python servers at rest end within 0.1 s, and closing a bot is to take less than a second."""

_SAID_BYTES: Final = 2000
"""How much of the end of stderr is kept: a traceback's last lines."""

_LOOK_CLOSELY_S: Final = 0.01
_LOOK_NOW_AND_THEN_S: Final = 1.0


class ServerProcess:
    """A running server; made by `start_process`, whoever made it calls `aclose`."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None  # all three were asked for
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin: Final = process.stdin
        self.stdout: Final = process.stdout
        self._process = process
        self._stderr = process.stderr
        self._said: deque[bytes] = deque()
        self._silent = trio.Event()

    @property
    def pid(self) -> int:
        """The process's id, which is also its group's."""
        return self._process.pid

    async def listen(self) -> None:
        """Read stderr until it ends, so that the server never waits for a reader; keep its last words."""
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while piece := bytes(await self._stderr.receive_some()):
                    self._said.append(piece[-_SAID_BYTES:])
                    while sum(map(len, self._said)) - len(self._said[0]) >= _SAID_BYTES:
                        self._said.popleft()
        finally:
            self._silent.set()

    async def wait_ended(self) -> None:
        """Return within a second or so of the process's end; what it started may still run.

        Mostly the end of its stdout tells that sooner. This is for programs that leave their stdout to a child.
        """
        while self._status() is None:  # noqa: ASYNC110 - see `_status`
            await trio.sleep(_LOOK_NOW_AND_THEN_S)

    async def ending(self) -> ServerFailed:
        """Say how the process ended, which it has, or is about to."""
        await self._ends()
        with trio.move_on_after(_GRACE_S):
            await self._silent.wait()
        said = b"".join(self._said)[-_SAID_BYTES:].decode("utf-8", "replace").strip()
        return ServerFailed(_ending(self._status()), said)

    async def aclose(self) -> None:
        """End the process and all that it started. When this returns, also when cancelled, they are gone."""
        with trio.CancelScope(shield=True):
            await self.stdin.aclose()
            if not await self._ends():
                self._signal(signal.SIGTERM)
                await self._ends()
            # Its children are in its group, also when it has ended before them.
            self._signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            await self.stdout.aclose()
            await self._stderr.aclose()
            await self._process.wait()

    async def _ends(self) -> bool:
        """Wait a moment for the process to end."""
        with trio.move_on_after(_GRACE_S):
            while self._status() is None:  # noqa: ASYNC110 - see `_status`
                await trio.sleep(_LOOK_CLOSELY_S)
            return True
        return False

    def _status(self) -> int | None:
        """How the process ended, or None if it runs.

        Looked at without reaping it, so that until `aclose` nobody else can be given its number, which is its group's
        too. There is no way to wait like this, only to look. Python on macOS can since 3.13; before that, it is reaped.
        """
        if not hasattr(os, "waitid"):
            return self._process.poll()
        try:
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # reaped
            return self._process.returncode
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _signal(self, number: signal.Signals) -> None:
        if not hasattr(os, "killpg"):
            self._process.send_signal(number)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says so of zombies
            os.killpg(self._process.pid, number)


async def start_process(server: McpServer, env: Mapping[str, str]) -> ServerProcess:
    """Start a server's program. Cancelled, it leaves nothing behind.

    Raises:
      ServerFailed: It cannot be started.
    """
    try:
        process = await trio.lowlevel.open_process(
            [server.command, *server.args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment_of(server, env),
            cwd=expanded(server.cwd, env) if server.cwd else None,
            start_new_session=True,  # Ctrl-C is for us, and one signal reaches all that it starts
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ServerFailed(f"`{server.command}` cannot be started: {reason}") from error
    return ServerProcess(process)


def environment_of(server: McpServer, env: Mapping[str, str]) -> dict[str, str]:
    """What a server sees: the ordinary of our environment, and its own settings over that."""
    return {name: env[name] for name in _INHERITED if name in env} | dict(server.env)


def _ending(status: int | None) -> str:
    if status is None:
        return "it closed its output, though it still runs"
    if status >= 0:
        return f"it exited with status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"
