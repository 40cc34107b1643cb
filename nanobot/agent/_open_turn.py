"""A turn that is not over: what is kept of it beside its history, so that another process can go on with it. Plain data."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from nanobot.errors import StoreError
from nanobot.messages import AssistantMessage, Message, ToolMessage, unanswered
from nanobot.tools import ApprovalRequest, Decision

from ._ledger import Ledger

__all__ = ["OpenCalls", "OpenTurn", "WaitingApproval", "open_turn_from_bytes", "settled"]


class OpenCalls(Struct, frozen=True):
    """The tool calls of one answer that are not over, and what became of each so far.

    Attributes:
      answer: The answer; no history has it yet.
      results: What those calls have that have ended, in the order of the calls.
      started: Which calls were begun. It is written before a call begins, for those that may not be run twice.
    """

    answer: AssistantMessage
    results: tuple[ToolMessage | None, ...]
    started: tuple[bool, ...]


class WaitingApproval(Struct, frozen=True):
    """The call that the turn waits for.

    Attributes:
      id: Names it, in this store and any other.
      index: Which of the calls.
      request: What whoever approves is told.
      asked_at, expires_at: Seconds since 1970; nobody can decide after the latter.
      decision: None until somebody decided.
    """

    id: str
    index: int
    request: ApprovalRequest
    asked_at: float
    expires_at: float
    decision: Decision | None = None


class OpenTurn(Struct, frozen=True, omit_defaults=True):
    """A turn from its user's message to its answer, as far as its history does not tell.

    Attributes:
      options: What was asked of the run, as far as it can be written down.
      iteration: The iteration that it is in.
      calls: The calls of that iteration, if there is an answer that has some.
      waiting: The approval that it is parked for.
      arrived: What came meanwhile: to be shown to the model before it is asked again.
      spent: What the turn has cost.
      session_spent: What its session had spent before it began, in tokens and US dollars; None if nobody counts that.
      tools_used: Names of the tools whose call succeeded, of all iterations before this one.
    """

    options: dict[str, Any] = {}
    iteration: int = 0
    calls: OpenCalls | None = None
    waiting: WaitingApproval | None = None
    arrived: tuple[Message, ...] = ()
    spent: Ledger = Ledger()
    session_spent: tuple[int, float] | None = None
    tools_used: tuple[str, ...] = ()

    @property
    def undecided(self) -> WaitingApproval | None:
        """The approval that it waits for, if nobody has decided yet."""
        return self.waiting if self.waiting is not None and self.waiting.decision is None else None

    @property
    def consumed(self) -> bool:
        """Whether the call that was approved has begun, so that its approval has been used."""
        return (
            self.waiting is not None
            and self.calls is not None
            and self.calls.started[self.waiting.index]
        )


_DECODER: Final[msgspec.json.Decoder[OpenTurn]] = msgspec.json.Decoder(OpenTurn)


def open_turn_from_bytes(body: bytes) -> OpenTurn:
    """Read what was written as JSON.

    Raises:
      StoreError: It is none, or one of a later version.
    """
    try:
        turn = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"a turn that was left open cannot be read: {error}") from error
    calls = turn.calls
    if calls is not None and not (
        len(calls.results) == len(calls.started) == len(calls.answer.tool_calls)
        and (turn.waiting is None or 0 <= turn.waiting.index < len(calls.started))
    ):
        raise StoreError("a turn that was left open cannot be read: its calls do not fit together")
    return turn


def settled(turn: OpenTurn) -> tuple[Message, ...]:
    """What a history keeps of a turn that nobody goes on with: every call has its result."""
    if turn.calls is None:
        return turn.arrived
    results = [
        result
        or unanswered(call, "interrupted_may_have_run" if started else "cancelled_before_start")
        for call, result, started in zip(
            turn.calls.answer.tool_calls, turn.calls.results, turn.calls.started, strict=True
        )
    ]
    return (turn.calls.answer, *results, *turn.arrived)
