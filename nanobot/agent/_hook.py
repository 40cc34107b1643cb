"""What users subclass to look on at a run or to step in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from ._hook_context import AgentHookContext, HookToolCall

__all__ = ["AgentHook", "HookOutcome", "HookText"]

HookOutcome: TypeAlias = Any
"""What a hook's method returns: None, or an awaitable of it. So type checkers take `async def` and plain `def` alike."""

HookText: TypeAlias = Any
"""What `finalize_content` returns: text, or an awaitable of it. Any for the same reason, and for hooks that are annotated with
`str | None`; None fails the run like anything else that is no text."""


class _Nothing:
    """For `await super().method(...)`, and for `super().method(...)` without it."""

    def __await__(self) -> Iterator[None]:
        return iter(())


NOTHING: Final = _Nothing()


class AgentHook:
    """Observe or change a run: subclass it, override what you need, pass instances as `hooks=[...]`.

    Methods run in the loop, thread and context of whoever called the SDK, hook after hook in the order of the list.
    All but `wants_streaming` may be `async def` or plain functions. The run waits for them.

    What a hook raises is logged to `nanobot.hooks` and the run goes on, with three exceptions: `reraise=True` makes a
    hook's errors fail the run; a failing `before_execute_tool` keeps its tool from being run; a failing
    `finalize_content` fails the run, whatever `reraise` says. When the run is cancelled, the method that is running
    is cancelled too.

    Args:
      reraise: Whether what this hook raises fails the run.
    """

    reraise: bool = False  # on the class too, for subclasses that do not call __init__

    def __init__(self, reraise: bool = False) -> None:
        self.reraise = reraise

    def wants_streaming(self) -> bool:
        """Return True to get `on_stream` and `on_stream_end`. Asked once, at the start of each run."""
        return False

    def before_run(self, context: AgentHookContext) -> HookOutcome:
        """Before anything else of the run."""
        return NOTHING

    def before_iteration(self, context: AgentHookContext) -> HookOutcome:
        """Before the model is asked; `context.messages` is what it will be shown."""
        return NOTHING

    def on_stream(self, context: AgentHookContext, delta: str) -> HookOutcome:
        """For each piece of text as the model says it, once."""
        return NOTHING

    def on_stream_end(self, context: AgentHookContext, *, resuming: bool) -> HookOutcome:
        """When an answer's text is complete; `resuming` says that tools and another answer follow."""
        return NOTHING

    def before_execute_tools(self, context: AgentHookContext) -> HookOutcome:
        """Before the tools of an answer are run; `context.tool_calls` may be changed as in `before_execute_tool`."""
        return NOTHING

    def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> HookOutcome:
        """Before one tool is run. `call.deny(reason)` keeps it from running; `call.arguments` may be rewritten.

        The first denial is final: hooks further down the list are not asked. If this method raises, the call is
        denied, for a guard that cannot decide must not let things pass.
        """
        return NOTHING

    def after_execute_tool(
        self, context: AgentHookContext, call: HookToolCall, result: str, outcome: str
    ) -> HookOutcome:
        """After one tool call has ended; `outcome` is "ok", "error", "denied" or "timed_out"."""
        return NOTHING

    def after_iteration(self, context: AgentHookContext) -> HookOutcome:
        """After an answer and its tools, with `response`, `usage`, `tool_results` and `tool_events` filled."""
        return NOTHING

    def finalize_content(self, context: AgentHookContext, content: str) -> HookText:
        """Return the answer as it should be returned and stored; each hook gets what the one before returned.

        If it raises, the run fails, and the text is neither returned nor stored. Pieces that were streamed before are
        not taken back.
        """
        return content

    def after_run(self, context: AgentHookContext) -> HookOutcome:
        """After a run that ended by itself, with `final_content` and `stop_reason`."""
        return NOTHING

    def on_error(self, context: AgentHookContext) -> HookOutcome:
        """After a run that failed, timed out or was cancelled, with `error` and, if there was one, `exception`."""
        return NOTHING

    def on_finally(self, context: AgentHookContext) -> HookOutcome:
        """After every run, last of all. A cancel does not reach it; it has a few seconds (`Limits.settle_s`)."""
        return NOTHING
