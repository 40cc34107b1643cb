"""Calling hooks, on the caller's side of the crossing: in a loop of any kind, so nothing here may touch Trio."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import isawaitable
from typing import Final

from nanobot.telemetry import Telemetry

from ._hook import AgentHook
from ._hook_context import AgentHookContext, HookToolCall

__all__ = ["call_all", "finalize", "guard", "start", "stream"]

_log = logging.getLogger("nanobot.hooks")


_UNTOLD: Final = nullcontext()


def _told(
    telemetry: Telemetry | None, hook: AgentHook, method: str
) -> AbstractContextManager[object]:
    """A span for one call of one hook, so that a slow one is seen."""
    if telemetry is None:
        return _UNTOLD
    return telemetry.span("hook", method, hook=type(getattr(hook, "wrapped", hook)).__qualname__)


class _Awaiting:
    """Around what a hook awaits. Where that was cancelled by somebody else, the hook has failed; asyncio's exception for it is
    the one for a task that is cancelled itself, and would end the run.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        asyncio = sys.modules.get("asyncio")  # a Trio program pays nothing for it
        if asyncio is None or not isinstance(error, asyncio.CancelledError):
            return
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop of asyncio's: nobody can have been cancelled
            cancelled = False
        else:
            cancelled = task is None or task.cancelling() > 0
        if not cancelled:
            raise RuntimeError("what the hook awaited was cancelled") from error


_AWAITING: Final = _Awaiting()


async def _call(
    hook: AgentHook,
    method: str,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    telemetry: Telemetry | None = None,
) -> None:
    try:
        with _told(telemetry, hook, method), _AWAITING:
            outcome = getattr(hook, method)(*args, **kwargs)
            if isawaitable(outcome):
                await outcome
    except Exception:  # strangers' code: a broken observer must not break the run it observes
        if getattr(hook, "reraise", False):
            raise
        _log.exception("%s.%s failed; the run goes on", type(hook).__qualname__, method)


async def call_all(
    hooks: tuple[AgentHook, ...],
    method: str,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    telemetry: Telemetry | None = None,
) -> None:
    for hook in hooks:
        await _call(hook, method, args, kwargs, telemetry)


async def start(
    askable: tuple[AgentHook, ...],
    before_run: tuple[AgentHook, ...],
    context: AgentHookContext,
    telemetry: Telemetry | None = None,
) -> tuple[AgentHook, ...]:
    await call_all(before_run, "before_run", (context,), {}, telemetry)
    return tuple([hook for hook in askable if _wants_streaming(hook)])


def _wants_streaming(hook: AgentHook) -> bool:
    try:
        return bool(hook.wants_streaming())
    except Exception:  # strangers' code, as above
        if getattr(hook, "reraise", False):
            raise
        _log.exception("%s.wants_streaming failed; it gets no stream", type(hook).__qualname__)
        return False


async def stream(
    hooks: tuple[AgentHook, ...], context: AgentHookContext, deltas: Sequence[str]
) -> None:
    for delta in deltas:
        await call_all(hooks, "on_stream", (context, delta), {})


async def guard(
    hooks: tuple[AgentHook, ...],
    context: AgentHookContext,
    call: HookToolCall,
    telemetry: Telemetry | None = None,
) -> None:
    for hook in hooks:
        try:
            with _told(telemetry, hook, "before_execute_tool"), _AWAITING:
                outcome: object = hook.before_execute_tool(context, call)
                if isawaitable(outcome):
                    await outcome
        except Exception as error:  # strangers' code; it fails closed
            if getattr(hook, "reraise", False):
                raise
            _log.exception(
                "%s.before_execute_tool failed; %s is not run", type(hook).__qualname__, call.name
            )
            call.deny(f"the check before this tool failed ({type(error).__name__})")
        if call.denied is not None:
            return


async def finalize(
    hooks: tuple[AgentHook, ...],
    context: AgentHookContext,
    content: str,
    telemetry: Telemetry | None = None,
) -> str:
    for hook in hooks:
        with _told(telemetry, hook, "finalize_content"), _AWAITING:
            changed: object = hook.finalize_content(context, content)
            if isawaitable(changed):
                changed = await changed
        if not isinstance(changed, str):
            raise TypeError(
                f"{type(hook).__qualname__}.finalize_content returned {type(changed).__name__}, not the text to show; "
                'return "" to show nothing'
            )
        content = changed
    return content
