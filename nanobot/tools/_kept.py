"""A program that is kept: a process stands between, so that nothing of it outlives who started it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from ._keeper import kill_kept
from ._threads import in_file_thread

__all__ = ["Kept", "can_keep", "start_kept"]

_TO_END_S: Final = 12.0
"""For the keeper, which itself needs 10.2 s at most and milliseconds as a rule; then it is killed, and what it kept."""

_TO_FINISH_S: Final = 0.2
"""For a program without a keeper, as keepers have it."""

_PROGRAM: Final = Path(__file__).with_name("_keeper.py")


def can_keep() -> bool:
    """Whether programs can be kept here: on a system that forks, and with a Python that can be started."""
    return hasattr(os, "fork") and bool(sys.executable) and not getattr(sys, "frozen", False)


class Kept:
    """A program with its keeper; made by `start_kept`. Whoever made it calls `aclose`.

    Where there can be no keeper, the program stands alone: only it is ended, and what it started may be left.

    Attributes:
      stdin: Where it reads from; None if there is nothing to read.
      stdout: What it writes.
      stderr: What it, and all it starts, writes there.
    """

    def __init__(
        self,
        keeper: trio.Process,
        lifeline: trio.abc.SendStream | None,
        stdin: trio.abc.SendStream | None,
    ) -> None:
        assert keeper.stdout is not None  # both were asked for
        assert keeper.stderr is not None
        self.stdin: Final = stdin
        self.stdout: Final = keeper.stdout
        self.stderr: Final = keeper.stderr
        self._keeper = keeper
        self._lifeline = lifeline

    @property
    def status(self) -> int | None:
        """How it ended: its exit code, or 128 + the signal. None while anything of it runs."""
        code = self._keeper.poll()
        return code if code is None or code >= 0 else 128 - code

    async def wait(self) -> None:
        """Return when the program has ended, and with it all that it started."""
        await self._keeper.wait()

    async def end(self) -> None:
        """End the program and all that it started: asked by SIGTERM, killed 0.2 s later. What its pipes hold can still
        be read. Cancelled, it is called again: by `aclose`.
        """
        if self._lifeline is None:
            self._keeper.terminate()
        else:
            await self._lifeline.aclose()
        with trio.move_on_after(_TO_FINISH_S if self._lifeline is None else _TO_END_S):
            await self._keeper.wait()
        code = self._keeper.returncode
        if code is None or code < 0:
            if self._lifeline is not None:  # somebody has stopped or killed the keeper
                await in_file_thread(lambda: kill_kept(self._keeper.pid))
            self._keeper.kill()
            with trio.move_on_after(_TO_END_S):
                await self._keeper.wait()

    async def aclose(self) -> None:
        """End the program and close its pipes. When this returns, also when cancelled, nothing of it is left."""
        with trio.CancelScope(shield=True):
            if self.stdin is not None:
                await self.stdin.aclose()
            await self.end()
            await self.stdout.aclose()
            await self.stderr.aclose()


async def start_kept(
    arguments: Sequence[str],
    *,
    folder: str | Path | None,
    environment: Mapping[str, str],
    reads: bool,
) -> Kept:
    """Start a program in a process group of its own, with a keeper where there can be one.

    Args:
      arguments: The program, found on the `PATH` of `environment`, and its arguments. One that is not there writes why
        to stderr and exits with 127.
      folder: Where it starts; None for where we are.
      environment: Its environment, the whole of it.
      reads: Whether it gets a pipe as its stdin, instead of nothing.

    Raises:
      OSError, ValueError: It cannot be started: the line is too long for the system, has NUL in it, the folder is gone.

    Cancellation: leaves nothing behind.
    """
    if not can_keep():
        alone = await trio.lowlevel.open_process(
            [*arguments],
            stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
        )
        return Kept(alone, None, alone.stdin)
    theirs, ours = os.pipe() if reads else (None, None)
    try:
        keeper = await trio.lowlevel.open_process(
            [sys.executable, "-I", "-S", "-Wignore", str(_PROGRAM), _written(theirs), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us
            pass_fds=() if theirs is None else (theirs,),
        )
    except BaseException:
        if ours is not None:
            os.close(ours)
        raise
    finally:
        if theirs is not None:
            os.close(theirs)
    return Kept(keeper, keeper.stdin, None if ours is None else trio.lowlevel.FdStream(ours))


def _written(descriptor: int | None) -> str:
    return "-" if descriptor is None else str(descriptor)
