"""The tool calls of one answer: run under the eyes of hooks and readers, and accounted for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from nanobot.errors import ToolError
from nanobot.messages import AssistantMessage, TextPart, ToolCall, ToolMessage, unanswered
from nanobot.tools import (
    Batch,
    Decided,
    OnBegin,
    ParkedCall,
    ToolResult,
    decode_arguments,
    denied,
    execute_all,
    failed,
)

from ._events import (
    STREAM_EVENT_TOOL_COMPLETED,
    STREAM_EVENT_TOOL_FAILED,
    STREAM_EVENT_TOOL_STARTED,
    StreamEvent,
)
from ._hook_context import HookToolCall
from ._hook_points import HookPoints
from ._open_turn import OpenCalls, OpenTurn
from ._parts import TurnParts

__all__ = ["ToolRound", "hook_calls"]

_log = logging.getLogger("nanobot.hooks")

_PARKED = "Not run yet: the run is parked until somebody has decided about a call."
_CUT_OFF = (
    "Not run: your answer reached its token limit before the call was complete. "
    "Make it shorter, or split the work over several calls."
)


class ToolRound:
    """The tool calls of one answer, and what became of each.

    A call that was announced with `tool.started` gets exactly one `tool.completed` or `tool.failed`: as it ends, or
    from `tell_the_rest` if the turn ends first. Events and hooks of one round come one at a time, also where calls
    run at once.
    """

    def __init__(
        self,
        calls: Sequence[ToolCall],
        iteration: int,
        parts: TurnParts,
        hooks: HookPoints | None,
    ) -> None:
        self._batch = Batch(calls)
        self._iteration = iteration
        self._parts = parts
        self._hooks = hooks
        self._views: Sequence[HookToolCall] = hooks.context.tool_calls if hooks is not None else ()
        self._announced: dict[
            int, dict[str, Any]
        ] = {}  # arguments as run, by index, of calls whose end is not told yet
        self._talking = trio.Lock()
        self._begun = [False] * len(self._batch.calls)
        self.on_begin: OnBegin | None = None

    @property
    def parked(self) -> ParkedCall | None:
        """The call that waits for a decision which will not come in this run, if one does."""
        return self._batch.parked

    def open_calls(self, answer: AssistantMessage, *, beginning: int | None = None) -> OpenCalls:
        """What is open of the calls of this answer; one may be about to begin."""
        if beginning is not None:
            self._begun[beginning] = True
        results = tuple(None if each is None else each.message for each in self._batch.finished)
        return OpenCalls(answer, results, tuple(self._begun))

    def restore(self, turn: OpenTurn) -> None:
        """Go on where the turn was left: what has ended keeps its result, and what may have run is not run again."""
        assert turn.calls is not None
        for index, call in enumerate(self._batch.calls):
            message = turn.calls.results[index]
            if message is None and turn.calls.started[index]:
                tool = self._parts.toolset.get(call.name)
                if tool is not None and tool.traits.repeatable:
                    continue
                message = unanswered(call, "interrupted_may_have_run")
            if message is not None:
                self._begun[index] = turn.calls.started[index]
                self._batch.finish(index, _result_of(message))
        waiting = turn.waiting
        if waiting is not None and waiting.decision is not None:
            self._batch.decided[waiting.index] = Decided(waiting.request, waiting.decision)

    async def run(self) -> None:
        """Run all calls. Whatever is raised, `results` has an outcome for each afterwards.

        Raises:
          ConsumerStalled: As from `Emit`.
          Exception: From a hook that reraises.
        """
        if self._hooks is not None:
            await self._hooks.reach("before_execute_tools")
        watched = self._hooks is not None or self._parts.emit.wanted
        await execute_all(
            self._batch,
            self._parts.toolset,
            replace(self._parts.tool_context, iteration=self._iteration),
            cross=self._parts.cross,
            max_result_chars=self._parts.limits.max_tool_result_chars,
            approval=self._parts.approval,
            on_start=self._started if watched else None,
            on_result=self._ended if watched else None,
            on_begin=self.on_begin,
        )
        if self._batch.parked is not None:
            await self._tell_parked()
            return
        self._show_results()

    async def refuse(self) -> None:
        """Answer every call without running it: the answer was cut off in one of them."""
        for index, call in enumerate(self._batch.calls):
            if self._parts.emit.wanted:
                await self._announce(index, call, _readable(call))
            result = failed(call, _CUT_OFF)
            self._batch.finish(index, result)
            await self._tell(index, result)
        self._show_results()

    @property
    def results(self) -> tuple[ToolMessage, ...]:
        """One result per call, in the order of the calls; what would stand if the turn ended now."""
        return tuple(result.message for result in self._batch.results)

    @property
    def succeeded(self) -> tuple[str, ...]:
        """Names of the tools that did what they were asked, in the order of the calls."""
        return tuple(result.message.name for result in self._batch.results if result.ok)

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Name and outcome of the calls that did not do what they were asked, in the order of the calls."""
        return [
            (result.message.name, result.message.outcome)
            for result in self._batch.results
            if not result.ok
        ]

    def refused(self, name: str) -> tuple[ToolCall, str] | None:
        """The last call of that tool, and why it failed; None if none did."""
        for call, result in zip(
            reversed(self._batch.calls), reversed(self._batch.results), strict=True
        ):
            if call.name == name and not result.ok:
                return call, result.error or result.message.outcome
        return None

    def tell_the_rest(self) -> None:
        """Say what became of the calls that were announced and whose end was not told, because the turn ends now."""
        for index in list(self._announced):
            self._parts.emit.nowait(self._end_event(index, self._batch.results[index]))

    async def _tell_parked(self) -> None:
        """Say of each call that was announced that it waits: whoever resumes the turn announces it again."""
        for index in list(self._announced):
            event = self._end_event(index, failed(self._batch.calls[index], _PARKED))
            event.metadata["outcome"] = "parked"
            await self._parts.emit(event)
            del self._announced[index]

    async def _started(self, index: int, call: ToolCall) -> ToolCall | ToolResult | None:
        async with self._talking:
            if self._hooks is None:
                await self._announce(index, call, _readable(call))
                return None
            view = self._views[index]
            if view.denied is None:
                await self._hooks.guard(view)
            rewritten = _rewritten(call, view)
            await self._announce(index, call, view.arguments)
            return denied(call, view.denied) if view.denied is not None else rewritten

    async def _ended(self, index: int, result: ToolResult) -> None:
        async with self._talking:
            await self._tell(index, result)
            if self._hooks is not None:
                text = _text(result.message)
                self._views[index].exception = result.exception
                await self._hooks.reach(
                    "after_execute_tool", self._views[index], text, result.message.outcome
                )

    async def _announce(self, index: int, call: ToolCall, arguments: dict[str, Any]) -> None:
        if self._parts.emit.wanted:
            await self._parts.emit(
                StreamEvent(
                    STREAM_EVENT_TOOL_STARTED,
                    name=call.name,
                    tool_call_id=call.id,
                    arguments=dict(arguments),
                    iteration=self._iteration,
                )
            )
            self._announced[index] = arguments

    async def _tell(self, index: int, result: ToolResult) -> None:
        if self._hooks is not None:
            self._hooks.context.tool_events.append(_tool_event(result))
        if index in self._announced:
            await self._parts.emit(self._end_event(index, result))
            del self._announced[index]

    def _end_event(self, index: int, result: ToolResult) -> StreamEvent:
        message = result.message
        return StreamEvent(
            STREAM_EVENT_TOOL_COMPLETED if result.ok else STREAM_EVENT_TOOL_FAILED,
            name=message.name,
            tool_call_id=message.tool_call_id,
            arguments=dict(self._announced[index]),
            iteration=self._iteration,
            error=result.error,
            metadata={**_tool_event(result), "result": _text(message), "outcome": message.outcome},
        )

    def _show_results(self) -> None:
        if self._hooks is not None:
            self._hooks.context.tool_results = [_text(result) for result in self.results]


def _result_of(message: ToolMessage) -> ToolResult:
    """The result of a call that ended in another run."""
    ok = message.outcome == "ok"
    text = _text(message)
    return ToolResult(message, ok, text[:120], None if ok else text)


def hook_calls(calls: Sequence[ToolCall]) -> list[HookToolCall]:
    """The calls as hooks see them."""
    return [HookToolCall(call.id, call.name, _readable(call)) for call in calls]


def _readable(call: ToolCall) -> dict[str, Any]:
    """The arguments as an object; `{}` where the model wrote none, which the tool layer will tell it."""
    try:
        return decode_arguments(call.arguments)
    except ToolError:
        return {}


def _rewritten(call: ToolCall, view: HookToolCall) -> ToolCall | None:
    """The call with the arguments that hooks left, or None if they left it alone."""
    if view.arguments == _readable(call):
        return None
    try:
        return replace(call, arguments=msgspec.json.encode(view.arguments).decode())
    except (
        TypeError,
        ValueError,
        RecursionError,
    ) as error:  # a guard that writes nonsense fails closed
        _log.error(
            "hooks left arguments for %s that are no JSON (%s); it is not run", call.name, error
        )
        view.deny("its arguments were replaced by something that is no JSON object")
        return None


def _tool_event(result: ToolResult) -> dict[str, Any]:
    return {
        "name": result.message.name,
        "tool_call_id": result.message.tool_call_id,
        "status": "ok" if result.ok else "error",
        "detail": result.detail,
    }


def _text(message: ToolMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(
        part.text if isinstance(part, TextPart) else f"[{_kind(part)}]" for part in message.content
    )


def _kind(part: object) -> str:
    return type(part).__name__.removesuffix("Part").lower()
