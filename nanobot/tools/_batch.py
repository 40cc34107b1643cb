"""Run the tool calls of one iteration, and account for each of them whatever happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeAlias

import trio
from msgspec.structs import replace

from nanobot.messages import ToolCall

from ._approval import NO_APPROVAL, Approval
from ._cross import Cross, run_here
from ._execute import (
    MAX_RESULT_CHARS,
    Decided,
    ParkedCall,
    PreparedCall,
    ask_about,
    no_failure,
    perform,
    prepare,
)
from ._result import ToolResult, cancelled_before_start, interrupted
from ._run_context import RunContext
from ._toolset import Toolset

__all__ = ["Batch", "OnBegin", "OnResult", "OnStart", "execute_all"]

OnStart: TypeAlias = Callable[[int, ToolCall], Awaitable["ToolCall | ToolResult | None"]]
"""Called before each call. May return the call with other arguments, or the result it shall have without being run."""

OnResult: TypeAlias = Callable[[int, ToolResult], Awaitable[None]]
"""Called as each call ends."""

OnBegin: TypeAlias = Callable[[int], Awaitable[None]]
"""Called right before a call begins that must not be run twice, once all that could refuse it has been asked."""

_AT_ONCE: Final = 32
"""Read-only calls of one iteration that run at once. A model that asks for hundreds gets them all, a few at a time."""


class Batch:
    """The calls of one iteration and what became of each; keeps the account while `execute_all` runs them.

    Attributes:
      calls: The calls, in the model's order.
      parked: The call that waits for a decision, if one does; then nothing behind it was begun.
      decided: What was decided about calls before, by their index.
    """

    __slots__ = ("_finished", "_started", "calls", "decided", "parked")

    def __init__(self, calls: Sequence[ToolCall]) -> None:
        self.calls: Final = tuple(calls)
        self._started = [False] * len(self.calls)
        self._finished: list[ToolResult | None] = [None] * len(self.calls)
        self.parked: ParkedCall | None = None
        self.decided: dict[int, Decided] = {}

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """One result per call, in the order of the calls, at any time: what would stand if the run ended now.

        A call that has ended has its own result. One that runs is `interrupted_may_have_run`, and one that does not
        run yet `cancelled_before_start`.
        """
        return tuple(
            result or (interrupted(call) if started else cancelled_before_start(call))
            for call, started, result in zip(self.calls, self._started, self._finished, strict=True)
        )

    @property
    def settled(self) -> bool:
        """Whether every call has ended by itself."""
        return None not in self._finished

    @property
    def finished(self) -> tuple[ToolResult | None, ...]:
        """What the calls have that have ended by themselves."""
        return tuple(self._finished)

    def has_ended(self, index: int) -> bool:
        """Whether the call has ended by itself."""
        return self._finished[index] is not None

    def start(self, index: int) -> None:
        """The call starts now."""
        self._started[index] = True

    def finish(self, index: int, result: ToolResult) -> None:
        """The call ended; what it has now stays."""
        self._finished[index] = result


async def execute_all(
    batch: Batch,
    toolset: Toolset,
    context: RunContext,
    *,
    cross: Cross = run_here,
    max_result_chars: int = MAX_RESULT_CHARS,
    approval: Approval = NO_APPROVAL,
    on_start: OnStart | None = None,
    on_result: OnResult | None = None,
    on_begin: OnBegin | None = None,
) -> tuple[ToolResult, ...]:
    """Run the calls of one iteration and return one result per call, in the order of the calls.

    Neighbors that are read-only run at once; every other call runs alone, after all before it and before all behind
    it. A call that fails changes nothing for the others.

    `on_start` is called in the order of the calls, each time before the call it announces, and `on_result` as each call
    ends; neither is called twice at once. A result is in `batch` before `on_result` is told of it.

    A call that needs approval is announced, then asked about, then run or denied. One question is put at a time, in the
    order of the calls; what runs at once with the call goes on meanwhile. If the answer is to wait, what has begun ends,
    nothing else begins, and `batch.parked` says which call waits. A batch may have calls that have ended: they are left alone.

    Raises:
      trio.Cancelled: The surrounding scope was cancelled. `batch.results` has an outcome for every call.
      Exception: Whatever a callback raised; the calls that run are cancelled first.
    """
    run = _Run(
        batch, toolset, context, cross, max_result_chars, approval, on_start, on_result, on_begin
    )
    for group in _groups(batch.calls, toolset):
        if batch.parked is not None:
            break
        if len(group) == 1:
            if batch.has_ended(group[0]):
                continue
            prepared = await run.admit(group[0])
            if prepared is not None and await run.approve(group[0], prepared):
                await run.finish(group[0], prepared)
        else:
            await run.at_once(group)
    return batch.results


def _groups(calls: Sequence[ToolCall], toolset: Toolset) -> Iterator[range]:
    """Cut the calls into runs of neighbors that may run at once."""
    start = 0
    for index in range(1, len(calls) + 1):
        if index == len(calls) or not (
            _shares(calls[index - 1], toolset) and _shares(calls[index], toolset)
        ):
            yield range(start, index)
            start = index


def _shares(call: ToolCall, toolset: Toolset) -> bool:
    tool = toolset.get(call.name)
    if tool is None:
        return True  # an error, at once
    return tool.traits.read_only and not tool.traits.exclusive


class _Run:
    """The moving parts of one `execute_all`."""

    def __init__(
        self,
        batch: Batch,
        toolset: Toolset,
        context: RunContext,
        cross: Cross,
        max_result_chars: int,
        approval: Approval,
        on_start: OnStart | None,
        on_result: OnResult | None,
        on_begin: OnBegin | None,
    ) -> None:
        self._batch = batch
        self._toolset = toolset
        self._context = context
        self._cross = cross
        self._max_result_chars = max_result_chars
        self._approval = approval
        self._on_start = on_start
        self._on_result = on_result
        self._on_begin = on_begin
        self._telling = trio.Lock()

    async def admit(self, index: int) -> PreparedCall | None:
        """Announce a call and check it; return None if it is settled with that."""
        call = self._batch.calls[index]
        if self._on_start is not None:
            answer = await self._on_start(index, call)
            if isinstance(answer, ToolResult):
                await self._settle(index, answer)
                return None
            if answer is not None:
                call = replace(call, arguments=answer.arguments)
        prepared = prepare(call, self._toolset, self._approval)
        if isinstance(prepared, ToolResult):
            await self._settle(index, prepared)
            return None
        return prepared

    async def approve(self, index: int, prepared: PreparedCall) -> bool:
        """Have a call approved if it needs that, and start it; return False if it is denied, and settled with that, or if
        it waits.
        """
        if prepared.needs_approval:
            refused = await ask_about(
                prepared,
                self._approval,
                self._context,
                self._cross,
                index=index,
                decided=self._batch.decided.get(index),
            )
            if isinstance(refused, ParkedCall):
                self._batch.parked = refused
                return False
            if refused is not None:
                await self._settle(index, refused)
                return False
        if self._on_begin is not None and not prepared.tool.traits.repeatable:
            await self._on_begin(index)
        # Without this, a tool would start in a run that is cancelled already, and go on to its first checkpoint.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._batch.start(index)
        return True

    async def finish(self, index: int, prepared: PreparedCall) -> None:
        """Run a call that was started."""
        result = await perform(
            prepared, self._context, cross=self._cross, max_result_chars=self._max_result_chars
        )
        await self._settle(index, result)

    async def at_once(self, group: range) -> None:
        """Run several calls at once, announced one after the other.

        Only callbacks raise here. What they raise is passed on as it is, without a group around it.
        """
        failures: list[Exception] = []
        slots = trio.Semaphore(_AT_ONCE)
        unasked: deque[tuple[int, PreparedCall]] = deque()  # those to ask about, in order

        async def run(index: int, prepared: PreparedCall) -> None:
            try:
                await self.finish(index, prepared)
            except Exception as error:  # noqa: BLE001 - a callback is a stranger's code
                failures.append(error)
                nursery.cancel_scope.cancel()
            finally:
                slots.release()

        async def ask() -> None:
            try:
                while unasked and self._batch.parked is None:
                    index, prepared = unasked[0]
                    if await self.approve(index, prepared):
                        nursery.start_soon(run, index, prepared)
                    else:
                        slots.release()
                    unasked.popleft()
                for _ in unasked:
                    slots.release()
            except Exception as error:  # noqa: BLE001 - a callback is a stranger's code
                failures.append(error)
                nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                try:
                    for index in group:
                        if self._batch.has_ended(index):
                            continue
                        await slots.acquire()
                        if self._batch.parked is not None:
                            break
                        prepared = await self.admit(index)
                        if self._batch.parked is not None:
                            break
                        if prepared is None:
                            slots.release()
                        elif prepared.needs_approval:
                            unasked.append((index, prepared))
                            if len(unasked) == 1:
                                nursery.start_soon(ask)
                        elif await self.approve(index, prepared):
                            nursery.start_soon(run, index, prepared)
                except Exception as error:  # noqa: BLE001 - a callback is a stranger's code
                    failures.append(error)
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as cancelled:  # by several tasks at once: one of them says it all
            raise no_failure(cancelled) or cancelled from None
        if failures:
            raise failures[0]

    async def _settle(self, index: int, result: ToolResult) -> None:
        self._batch.finish(index, result)
        if self._on_result is not None:
            async with self._telling:
                await self._on_result(index, result)
