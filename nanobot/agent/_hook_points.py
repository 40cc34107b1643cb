"""The points of a run at which hooks are called."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from nanobot.telemetry import Telemetry
from nanobot.tools import Cross

from ._hook import AgentHook
from ._hook_calls import call_all, finalize, guard, start, stream
from ._hook_context import AgentHookContext, HookToolCall

__all__ = ["HookPoints"]

_POINTS: Final = (
    "before_run",
    "before_iteration",
    "before_execute_tools",
    "before_execute_tool",
    "after_execute_tool",
    "after_iteration",
    "finalize_content",
    "after_run",
    "on_error",
    "on_finally",
)


class HookPoints:
    """A run's hooks, sorted by the points at which they have something to do, and the context they share.

    Reaching a point is one crossing to the caller's loop for all hooks together, and none at all where no hook is.
    """

    __slots__ = ("_at", "_cross", "_hooks", "_stream", "_stream_s", "_telemetry", "context")

    def __init__(
        self,
        hooks: Sequence[AgentHook],
        cross: Cross,
        context: AgentHookContext,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.context = context
        self._telemetry = telemetry
        self._stream_s = 0.0
        self._hooks = tuple(hooks)
        self._cross = cross
        self._at = {
            point: tuple(h for h in self._hooks if _overrides(h, point)) for point in _POINTS
        }
        self._stream: tuple[AgentHook, ...] = ()

    @property
    def streaming(self) -> bool:
        """Whether any hook wants text as it comes; known once `start` has run."""
        return bool(self._stream)

    async def start(self) -> None:
        """Reach `before_run`, and ask who wants to be streamed to."""
        askable = tuple(h for h in self._hooks if _overrides(h, "wants_streaming"))
        before_run = self._at["before_run"]
        if askable or before_run:
            self._stream = await self._cross(
                start, askable, before_run, self.context, self._telemetry
            )

    async def reach(self, point: str, *args: object) -> None:
        """Call all hooks at one point, in order."""
        if hooks := self._at[point]:
            await self._cross(call_all, hooks, point, (self.context, *args), {}, self._telemetry)

    async def stream(self, deltas: Sequence[str]) -> None:
        """Hand pieces of text, in order, to the hooks that want them."""
        if self._stream:
            began = time.monotonic()
            try:
                await self._cross(stream, self._stream, self.context, deltas)
            finally:
                self._stream_s += time.monotonic() - began

    def take_stream_s(self) -> float:
        """Seconds that `stream` took since this was last asked: a span for each piece would be too many."""
        taken, self._stream_s = self._stream_s, 0.0
        return taken

    async def end_stream(self, *, resuming: bool) -> None:
        """Tell the hooks that want streaming that an answer's text is complete."""
        if self._stream:
            await self._cross(
                call_all,
                self._stream,
                "on_stream_end",
                (self.context,),
                {"resuming": resuming},
                self._telemetry,
            )

    async def guard(self, call: HookToolCall) -> None:
        """Ask the hooks about one tool call; it may come back denied or rewritten."""
        if hooks := self._at["before_execute_tool"]:
            await self._cross(guard, hooks, self.context, call, self._telemetry)

    async def finalize(self, content: str) -> str:
        """Pass the answer through all hooks. Whatever one of them raises is raised here."""
        if hooks := self._at["finalize_content"]:
            return await self._cross(finalize, hooks, self.context, content, self._telemetry)
        return content


def _overrides(hook: AgentHook, method: str) -> bool:
    bound = getattr(hook, method, None)
    return bound is not None and getattr(bound, "__func__", bound) is not getattr(AgentHook, method)
