"""All that reaches a turn while it runs: what its subagents found, and what its user says meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from nanobot.agent import Inbox
from nanobot.messages import Message

from ._run import Run
from ._steering import Steering

__all__ = ["TurnInbox"]


class TurnInbox:
    """An `Inbox` of two sources. A turn that has its answer waits for its subagents, never for its user.

    Args:
      subagents: What the turn's subagents bring.
      steering: Runs that steer turns.
      run: The run whose turn it is.
    """

    __slots__ = ("_run", "_steering", "_subagents")

    def __init__(self, subagents: Inbox, steering: Steering, run: Run) -> None:
        self._subagents = subagents
        self._steering = steering
        self._run = run

    @property
    def ready(self) -> bool:
        """See `Inbox.ready`."""
        return self._steering.waits(self._run.session_key) or self._subagents.ready

    @property
    def expecting(self) -> bool:
        """See `Inbox.expecting`."""
        return self._subagents.expecting

    async def take(self) -> Sequence[Message]:
        """See `Inbox.take`."""
        found = await self._subagents.take() if self._subagents.ready else ()
        if not self._steering.waits(self._run.session_key):
            return found
        return [*found, *await self._steering.take(self._run)]

    async def wait(self) -> None:
        """See `Inbox.wait`."""
        await self._subagents.wait()

    async def aclose(self) -> None:
        """See `Inbox.aclose`."""
        await self._subagents.aclose()
