"""What the tool `spawn` asks of the runtime, which knows how to start a run inside a run."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Spawner"]


class Spawner(Protocol):
    """Starts subagents for one run, and ends them with it."""

    async def spawn(self, task: str, label: str, *, wait: bool) -> str:
        """Give a task to a subagent; return its answer, or at once what the model should know about the wait.

        Raises:
          ToolError: It cannot be started, or it failed; with a text for the model.

        Cancellation: the subagent goes on until its run ends, which cancels it.
        """
        ...
