"""The tool `spawn`: give a task to a subagent."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nanobot.errors import ToolError

from .._run_context import RunContext
from .._tool import tool

__all__ = ["spawn"]


@tool(on_host=False)
async def spawn(
    context: RunContext,
    task: Annotated[
        str, Meta(min_length=1, description="What to do, with all that has to be known for it.")
    ],
    label: Annotated[str, Meta(max_length=80, description="Short name of the task.")] = "",
    wait: Annotated[bool, Meta(description="Wait for the result instead of going on.")] = False,
) -> str:
    """Have a subagent work on a task of its own, with your tools, in the same workspace.

    It knows nothing of this conversation. Without wait you go on, and its result is shown to you as soon as it is
    there; if you have nothing else to do, end your answer.
    """
    if context.spawner is None:
        raise ToolError("No subagent can be started here; do the task yourself.")
    return await context.spawner.spawn(task, label, wait=wait)
