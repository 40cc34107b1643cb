"""Which histories a model accepts, and how an illegal one is mended.

A history is legal when every tool call is answered exactly once, right after the answer that made it; no result stands
without its call; the calls of one answer have ids of their own; no answer is empty; and the first thing said is said by
the user. All providers accept a legal history, and the strict ones accept nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from ._message import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)

__all__ = [
    "OPENING",
    "Change",
    "Problem",
    "ProblemKind",
    "Repaired",
    "UnansweredOutcome",
    "check",
    "repair",
    "unanswered",
]

ProblemKind: TypeAlias = Literal[
    "call_without_result",
    "result_without_call",
    "second_result",
    "call_id_not_unique",
    "empty_answer",
    "starts_without_user",
]

UnansweredOutcome: TypeAlias = Literal["interrupted_may_have_run", "cancelled_before_start"]
"""What can have become of a call that nobody answered."""

OPENING: Final = UserMessage("(The start of this conversation is not shown.)")
"""Stands before an answer that nothing came before: strict providers want the user to speak first."""

_UNANSWERED_TEXT: Final[dict[UnansweredOutcome, str]] = {
    "interrupted_may_have_run": (
        "Interrupted before a result was recorded. The call may have run, wholly or in part: "
        "check its effects before you repeat it."
    ),
    "cancelled_before_start": "Cancelled before it started. Nothing was done.",
}


class Problem(Struct, frozen=True):
    """One reason why a history is not legal.

    `index` is the message's place in the history; `tool_call_id` is "" where no call is concerned.
    """

    index: int
    kind: ProblemKind
    tool_call_id: str = ""


class Change(Struct, frozen=True):
    """What `repair` did about one problem, in words that fit a log line."""

    problem: Problem
    done: str


class Repaired(Struct, frozen=True):
    """A legal history, and what was done to make it one; `changes` is empty if it already was."""

    history: Sequence[Message]
    changes: tuple[Change, ...] = ()


def check(history: Sequence[Message], *, continues: bool = False) -> tuple[Problem, ...]:
    """Return every problem of the history, in order; none means that it is legal.

    Args:
      history: Messages in order.
      continues: It is a piece to be appended to a legal history, so it may start with an answer.
    """
    return tuple(
        change.problem
        for _, change in _mended(history, continues, frozenset())
        if change is not None
    )


def repair(
    history: Sequence[Message],
    *,
    continues: bool = False,
    not_started: Collection[str] = (),
) -> Repaired:
    """Make the history legal, losing as little as possible; a legal one is returned as it is, the same object.

    A call without a result gets one that says so. A result without a call, or a second one, is dropped, and so is an
    empty answer. Ids that are empty or repeated within an answer are made unique, in the results too. A history that
    starts with an answer gets an opening user message.

    Args:
      history: Messages in order; not changed.
      continues: As for `check`.
      not_started: Ids of calls known not to have started; any other call without a result may have run.
    """
    entries = list(_mended(history, continues, not_started))
    changes = tuple(change for _, change in entries if change is not None)
    if not changes:
        return Repaired(history)
    return Repaired(tuple(message for message, _ in entries if message is not None), changes)


def unanswered(call: ToolCall, outcome: UnansweredOutcome) -> ToolMessage:
    """Return the result to record for a call that nobody answered; its text tells the model what may have happened."""
    return ToolMessage(call.id, call.name, _UNANSWERED_TEXT[outcome], outcome=outcome)


_Entry: TypeAlias = tuple[Message | None, Change | None]
"""A message of the mended history, or None where one was dropped, and the change if there was one."""


def _mended(
    history: Sequence[Message], continues: bool, not_started: Collection[str]
) -> Iterator[_Entry]:
    spoken = continues
    index = 0
    while index < len(history):
        message = history[index]
        if isinstance(message, ToolMessage):  # results that have a call are taken together with it
            problem = Problem(index, "result_without_call", message.tool_call_id)
            yield None, Change(problem, "result dropped")
            index += 1
            continue
        if isinstance(message, AssistantMessage) and not (
            message.tool_calls or message.content.strip()
        ):
            yield None, Change(Problem(index, "empty_answer"), "answer dropped")
            index += 1
            continue
        if not spoken and isinstance(message, AssistantMessage):
            yield OPENING, Change(Problem(index, "starts_without_user"), "opening added")
        spoken = spoken or not isinstance(message, SystemMessage)
        if isinstance(message, AssistantMessage) and message.tool_calls:
            end = index + 1
            while end < len(history) and isinstance(history[end], ToolMessage):
                end += 1
            yield from _mended_answer(message, history[index + 1 : end], index, not_started)
            index = end
        else:
            yield message, None
            index += 1


def _mended_answer(
    answer: AssistantMessage,
    results: Sequence[Message],
    index: int,
    not_started: Collection[str],
) -> Iterator[_Entry]:
    """Mend one answer with calls and the results that directly follow it."""
    calls = _with_unique_ids(answer.tool_calls)
    renamed = calls != answer.tool_calls
    if not renamed:
        yield answer, None
    else:
        first = next(
            old.id for old, new in zip(answer.tool_calls, calls, strict=True) if old != new
        )
        change = Change(Problem(index, "call_id_not_unique", first), "ids made unique")
        yield replace(answer, tool_calls=calls), change

    # Calls still open, by the id that the results know; equal ids are answered in order.
    open_calls: dict[str, list[ToolCall]] = {}
    for old, new in zip(answer.tool_calls, calls, strict=True):
        open_calls.setdefault(old.id, []).append(new)
    for place, result in enumerate(results, index + 1):
        assert isinstance(result, ToolMessage)
        waiting = open_calls.get(result.tool_call_id)
        if waiting:
            call = waiting.pop(0)
            same = call.id == result.tool_call_id
            yield (result if same else replace(result, tool_call_id=call.id)), None
        else:
            kind: ProblemKind = "result_without_call" if waiting is None else "second_result"
            yield None, Change(Problem(place, kind, result.tool_call_id), "result dropped")

    missing = {id(call) for waiting in open_calls.values() for call in waiting}
    for old, call in zip(answer.tool_calls, calls, strict=True):
        if id(call) in missing:
            outcome: UnansweredOutcome = (
                "cancelled_before_start" if old.id in not_started else "interrupted_may_have_run"
            )
            problem = Problem(index, "call_without_result", old.id)
            yield unanswered(call, outcome), Change(problem, f"result added: {outcome}")


def _with_unique_ids(calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
    """Keep the first of each id; later ones and empty ones get a number that nothing else has."""
    ids = {call.id for call in calls}
    if len(ids) == len(calls) and "" not in ids:
        return calls
    kept: set[str] = set()
    unique: list[ToolCall] = []
    for call in calls:
        if call.id and call.id not in kept:
            kept.add(call.id)
            unique.append(call)
            continue
        number = 1
        while (fresh := f"{call.id or 'call'}_{number}") in ids:
            number += 1
        ids.add(fresh)
        unique.append(replace(call, id=fresh))
    return tuple(unique)
