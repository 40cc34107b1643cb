"""Run one command and wait for it; whatever becomes of the wait, nothing of the command is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import trio
from msgspec import Struct
from trio.lowlevel import RunVar

from nanobot.errors import ToolError

from .._kept import Kept, can_keep, start_kept
from ._output import Output

__all__ = ["Ended", "Ending", "run_command"]

_AT_ONCE: Final = 32
"""Commands of one Trio run at the same time; others wait. Each is at least two processes, 10 MB."""

_MOST_BYTES: Final = 256 * 1024 * 1024
"""What a command may write. Only its beginning and its end are kept, but reading costs the engine's time too: `yes`
writes so much in 0.2 s."""

_READ_BYTES: Final = 256 * 1024

_TO_DRAIN_S: Final = 1.0
"""For the last bytes in the pipes. They end with the last process that holds them."""

Ending: TypeAlias = Literal["exited", "timed_out", "wrote_too_much"]

_commands: RunVar[trio.Semaphore] = RunVar("nanobot.tools.commands")


class Ended(Struct, frozen=True):
    """What became of a command.

    Attributes:
      ending: How it ended; in all cases but `exited` it was killed.
      exit_code: As a shell reports it: 128 + the signal for one that was killed. Of no meaning unless it exited.
    """

    ending: Ending
    exit_code: int


async def run_command(
    arguments: Sequence[str],
    *,
    folder: str,
    environment: Mapping[str, str],
    timeout_s: float,
    output: Output,
    errors: Output,
) -> Ended:
    """Run a command in a process group of its own, without stdin, and wait until it and all it started have ended.

    What it left in the background is ended when it ends. Where the system is not Linux, a process that leaves the
    group escapes.

    Args:
      arguments: The program and its arguments.
      folder: Where it starts.
      environment: Its environment, the whole of it.
      timeout_s: Seconds it may take; may be infinite.
      output: What it wrote to stdout.
      errors: What it wrote to stderr.

    Raises:
      ToolError: It cannot be run here.

    Cancellation: returns when the command and its descendants are dead.
    """
    async with _one_of_few():
        command = await _start(arguments, folder, environment)
        try:
            return await _waited(command, timeout_s, output, errors)
        finally:
            await command.aclose()  # noqa: ASYNC102 - shielded, and bounded


def _one_of_few() -> trio.Semaphore:
    try:
        return _commands.get()
    except LookupError:
        commands = trio.Semaphore(_AT_ONCE)
        _commands.set(commands)
        return commands


async def _start(arguments: Sequence[str], folder: str, environment: Mapping[str, str]) -> Kept:
    if not can_keep():
        raise ToolError(
            "Commands cannot be run here: this system, or this Python, cannot keep them."
        )
    try:
        return await start_kept(arguments, folder=folder, environment=environment, reads=False)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(f"The command cannot be started: {reason}.") from error


async def _waited(command: Kept, timeout_s: float, output: Output, errors: Output) -> Ended:
    ending: Ending = "exited"
    with trio.move_on_after(timeout_s) as deadline:
        async with trio.open_nursery() as nursery:

            async def read(stream: trio.abc.ReceiveStream, into: Output) -> None:
                nonlocal ending
                while piece := await stream.receive_some(_READ_BYTES):
                    into.feed(bytes(piece))
                    if output.size + errors.size > _MOST_BYTES:
                        ending = "wrote_too_much"
                        nursery.cancel_scope.cancel()

            nursery.start_soon(read, command.stdout, output)
            nursery.start_soon(read, command.stderr, errors)
            await command.wait()
            nursery.cancel_scope.deadline = trio.current_time() + _TO_DRAIN_S
    if deadline.cancelled_caught:
        ending = "timed_out"
    return Ended(ending, command.status or 0)
