"""Run one tool call, and turn whatever happens into a result."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import trio
from msgspec import Struct
from msgspec.structs import replace

from nanobot.errors import ToolError, ToolTimedOut
from nanobot.messages import TextPart, ToolCall, ToolOutcome

from ._approval import (
    CANNOT_WAIT,
    NO_APPROVAL,
    Approval,
    ApprovalRequest,
    Decision,
    Denied,
    Park,
)
from ._arguments import decode_arguments
from ._cross import Cross, run_here
from ._kept_results import keep_result
from ._result import ToolContent, ToolResult, content_from_value, denied, failed, succeeded
from ._run_context import CallState, RunContext
from ._threads import TOOL_THREADS, in_file_thread
from ._tool import Tool
from ._toolset import Toolset
from ._truncate import cut_middle

__all__ = [
    "MAX_RESULT_CHARS",
    "Decided",
    "ParkedCall",
    "PreparedCall",
    "ask_about",
    "bounded",
    "execute",
    "no_failure",
    "perform",
    "prepare",
]

_log = logging.getLogger("nanobot.approval")

MAX_RESULT_CHARS: Final = 16_000
"""About 4,000 tokens: a few such results still fit a small window, and a page of log says enough."""

_NAMES_LISTED: Final = 40
_REASON: Final = 500
"""Characters of a stranger's exception that the model is shown; the rest is in the trace."""


class PreparedCall(Struct, frozen=True, eq=False):
    """A call that can be run: its tool is there, and its arguments fit.

    Attributes:
      call: The call.
      tool: The tool it is for.
      arguments: What `tool.invoke` takes.
      needs_approval: Whether somebody has to be asked first.
    """

    call: ToolCall
    tool: Tool
    arguments: Any
    needs_approval: bool


class Decided(Struct, frozen=True):
    """What was decided about a call before the run was parked, and what was asked then."""

    request: ApprovalRequest
    decision: Decision


class ParkedCall(Struct, frozen=True):
    """A call that waits for a decision which will not come in this run."""

    index: int
    request: ApprovalRequest
    expires_s: float


def prepare(
    call: ToolCall, toolset: Toolset, approval: Approval = NO_APPROVAL
) -> PreparedCall | ToolResult:
    """Find the tool and check the arguments; what is wrong with them is the result already."""
    tool = toolset.get(call.name)
    if tool is None:
        return failed(call, _no_such_tool(call.name, toolset))
    try:
        arguments = tool.convert(decode_arguments(call.arguments, _parameter_names(tool)))
    except trio.Cancelled:
        raise
    except BaseException as error:  # noqa: BLE001 - a tool may be a stranger's, as in `perform`
        if (passing := no_failure(error)) is not None:
            raise passing from None
        return failed(call, _told(error), exception=error)
    traits = tool.traits
    asked = not traits.gives_answer and approval.needed(tool.spec.name, traits.approval)
    return PreparedCall(call, tool, arguments, asked)


async def ask_about(
    prepared: PreparedCall,
    approval: Approval,
    context: RunContext,
    cross: Cross,
    *,
    index: int = 0,
    decided: Decided | None = None,
) -> ToolResult | ParkedCall | None:
    """Ask whoever approves about a call; return the result it has if it is denied, None if it may be run.

    An approver that fails has not approved: the call is denied and the run goes on. What was `decided` before holds, an
    approval only for the arguments that were approved.

    Raises:
      trio.Cancelled: The surrounding scope was cancelled; the call was not run.
    """
    call = prepared.call
    request = ApprovalRequest(
        name=call.name,
        # Decoded anew: what the approver does to them stays with the approver.
        arguments=decode_arguments(call.arguments, _parameter_names(prepared.tool)),
        tool_call_id=call.id,
        session_key=context.session_key,
        description=prepared.tool.spec.description,
        iteration=context.iteration,
    )
    if decided is not None:
        if isinstance(decided.decision, Denied):
            return denied(call, decided.decision.reason or "it was not approved.")
        if decided.request.arguments == request.arguments:
            return None
    try:
        answer = await approval.decide(request, cross)
    except trio.Cancelled:
        raise
    except BaseException as error:  # noqa: BLE001 - an approver is a stranger's code, as in `perform`
        if (passing := no_failure(error)) is not None:
            raise passing from None
        _log.error("the approver failed; %s is not run", call.name, exc_info=error)
        reason = f"asking for approval failed ({type(error).__name__})."
        return denied(call, reason, exception=error)
    match answer:
        case Park(expires_s=expires_s):
            assert expires_s is not None  # `decide` has filled it in
            return ParkedCall(index, request, expires_s)
        case Denied(reason=reason):
            return denied(call, reason)
    return None


async def perform(
    prepared: PreparedCall, context: RunContext, *, cross: Cross, max_result_chars: int
) -> ToolResult:
    """Run a call that was prepared; see `execute`."""
    call, tool = prepared.call, prepared.tool
    started = trio.current_time()
    state = CallState()
    timeout_s = math.inf if tool.traits.timeout_s is None else tool.traits.timeout_s
    try:
        with trio.move_on_after(timeout_s) as deadline:
            value = await tool.invoke(prepared.arguments, context.for_call(call.id, state), cross)
    except trio.Cancelled:
        raise
    except BaseException as error:  # noqa: BLE001 - see below
        # A tool's body is a stranger's code. Whatever it raises, SystemExit and asyncio's CancelledError included, is
        # one failed call: it must end neither the turn nor the engine that a thousand other runs share.
        if (passing := no_failure(error)) is not None:
            raise passing from None
        outcome: ToolOutcome = "timed_out" if isinstance(error, ToolTimedOut) else "error"
        elapsed_s = trio.current_time() - started
        return failed(call, _told(error), outcome=outcome, exception=error, elapsed_s=elapsed_s)
    finally:
        state.cancel.request()
    elapsed_s = trio.current_time() - started
    if deadline.cancelled_caught:
        return failed(call, _timed_out(state, timeout_s), outcome="timed_out", elapsed_s=elapsed_s)
    try:
        content = content_from_value(value, call.name)
    except Exception as error:  # noqa: BLE001 - a stranger's class decides how it is written
        text = f"The tool ran, but what it returned cannot be shown ({_told(error)})."
        return failed(call, text, exception=error, elapsed_s=elapsed_s)
    if not tool.traits.bounds_result:
        content = await bounded(content, call.id, context, max_result_chars)
    return succeeded(call, content, elapsed_s=elapsed_s)


async def execute(
    call: ToolCall,
    toolset: Toolset,
    context: RunContext,
    *,
    cross: Cross = run_here,
    max_result_chars: int = MAX_RESULT_CHARS,
    approval: Approval = NO_APPROVAL,
) -> ToolResult:
    """Run one tool call. Every failure but cancellation becomes a result; the model decides what to do about it.

    A tool that needs approval is run once it is given; the time that takes is no part of the tool's own.

    A result longer than `max_result_chars` is kept in a file of the workspace, and shown as its beginning, its end,
    and the path. `context` is that of the iteration; the tool sees it with the id of this call.

    Raises:
      trio.Cancelled: The surrounding scope was cancelled. What became of the call is for the caller to record: an
        async tool has ended, a sync one may still run in its thread.
    """
    prepared = prepare(call, toolset, approval)
    if isinstance(prepared, ToolResult):
        return prepared
    if prepared.needs_approval:
        approval = replace(approval, may_park=False)
        refused = await ask_about(prepared, approval, context, cross)
        if isinstance(
            refused, ParkedCall
        ):  # not expected, and no reason to run what nobody approved
            return denied(call, CANNOT_WAIT)
        if refused is not None:
            return refused
    return await perform(prepared, context, cross=cross, max_result_chars=max_result_chars)


def _parameter_names(tool: Tool) -> Mapping[str, object]:
    names: Mapping[str, object] = tool.spec.parameters.get("properties", {})
    return names


def _no_such_tool(name: str, toolset: Toolset) -> str:
    names = sorted(toolset.names)
    by_lower = {known.lower(): known for known in names}
    close = [
        by_lower[match]
        for match in difflib.get_close_matches(name[:100].lower(), by_lower, n=3, cutoff=0.5)
    ]
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    listed = (
        ", ".join(names[:_NAMES_LISTED]) + (", …" if len(names) > _NAMES_LISTED else "") or "none"
    )
    return f"There is no tool called {name[:100]!r}.{meant} Available tools: {listed}."


def no_failure(error: BaseException) -> BaseException | None:
    """The one exception in it that no tool may answer for: Ctrl-C, the end of the engine, or else a cancellation.

    A nursery raises groups; from one with such an exception in it, what else broke on the way out is dropped.
    """
    kinds = (KeyboardInterrupt, GeneratorExit, trio.Cancelled)
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, kinds) else None
    for kind in kinds:
        found: BaseException | None = error.subgroup(kind)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is not None:
            return found
    return None


def _told(error: BaseException) -> str:
    """What the model is told of an exception: a tool's own words, or the kind and the first line of a stranger's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 - a stranger's __str__
        text = ""
    if isinstance(error, ToolError):
        return text
    line = text.partition("\n")[0].strip()[:_REASON]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _timed_out(state: CallState, timeout_s: float) -> str:
    if not state.started:
        return (
            f"The call did not start within {timeout_s:g} s, because all {TOOL_THREADS} threads for tools are busy."
            " It was not run; try again."
        )
    after = (
        "It cannot be stopped and may still be running"
        if state.in_thread
        else "It was stopped, perhaps half done"
    )
    return f"The tool did not finish within {timeout_s:g} s. {after}: check before you repeat it, or ask for less."


async def bounded(content: ToolContent, name: str, context: RunContext, limit: int) -> ToolContent:
    """Cut the text of a result that is longer than `limit`, and keep the whole of it where the model can read it.

    `name` is what to call the file, such as the id of the call. Cannot be cancelled.
    """
    parts = () if isinstance(content, str) else content
    text = (
        content
        if isinstance(content, str)
        else "\n".join(part.text for part in parts if isinstance(part, TextPart))
    )
    if len(text) <= limit:
        return content
    shown = f"[The beginning and the end of {len(text):,} characters."
    # The tool has run: what it said is not lost to a cancel during this short write.
    with trio.CancelScope(shield=True):
        try:
            path = await in_file_thread(
                lambda: keep_result(context.confined, context.session_key, name, text)
            )
            notice = f"{shown} The whole result is in the file {path}: read it in parts, or search in it.]"
        except ToolError as error:
            notice = f"{shown} The whole result could not be kept: {error}]"
    cut = cut_middle(text, limit, notice)
    return (
        cut
        if not parts
        else (TextPart(cut), *(part for part in parts if not isinstance(part, TextPart)))
    )
