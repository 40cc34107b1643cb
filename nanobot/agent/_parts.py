"""All that one turn is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from nanobot.messages import Message
from nanobot.providers import Provider
from nanobot.telemetry import Telemetry
from nanobot.tools import NO_APPROVAL, Approval, Cross, RunContext, Toolset, run_here

from ._budget import Purse
from ._emit import NOBODY, Emit
from ._hook import AgentHook
from ._inbox import EMPTY, Inbox
from ._journal import NO_JOURNAL, Journal
from ._limits import Limits
from ._model_settings import ModelSettings
from ._open_turn import OpenTurn
from ._tally import Estimate, Tally, estimate_by_length
from ._typed_answer import TypedAnswer

__all__ = ["TurnParts"]

_LIMITS: Final = Limits()


class TurnParts(Struct, frozen=True, kw_only=True, eq=False):
    """All that one turn is made of; whoever runs the turn brings it.

    Attributes:
      provider: The model service.
      settings: Which model, and how it is asked.
      messages: What the model is shown: the system message, the history, then the user's message. The turn appends to
        the list what is said in it.
      toolset: What the model may call.
      tool_context: The run as tools see it, and for whom it is, for events and hooks.
      limits: How far the turn may go.
      hooks: The caller's hooks, in the order in which they run.
      emit: Where events go.
      journal: Where messages are kept.
      cross: The way to the caller's loop, where hooks, approvers and the caller's async tools run.
      approval: Who is asked before which tools are run.
      inbox: What reaches the turn while it runs.
      estimate: Counts tokens where the provider does not.
      tally: Counts the turn's tokens; one that has counted something already if there was something before it, such as a
        compaction. None is a new one.
      user_message: What the journal gets for the user's message, if that is not what the model is shown
        (`messages[-1]`).
      purse: What the turn may spend; None is no limit.
      telemetry: Who is told of iterations and hooks; None for nobody. Providers and tools tell of themselves.
      answer: The type that the answer is to have; None for text. Its tool is in `toolset`.
      model_preset: The preset's name, if the settings come from one.
      open_turn: What the journal is to keep of the turn while it is open, so that another process can go on with it; None is
        nothing. It costs a write before each call of a tool that may not be run twice.
      resumes: Whether the turn was begun before; then `open_turn` is where it stands, `messages` has the user's message and
        all that came after it, and there is no `user_message`.
      opened: What is kept of the turn at its beginning, for one that is parked without having been kept open.
      join_deltas: Whether pieces of text that come in one batch are told as one.
    """

    provider: Provider
    settings: ModelSettings
    messages: list[Message]
    toolset: Toolset
    tool_context: RunContext
    limits: Limits = _LIMITS
    hooks: Sequence[AgentHook] = ()
    emit: Emit = NOBODY
    journal: Journal = NO_JOURNAL
    cross: Cross = run_here
    approval: Approval = NO_APPROVAL
    inbox: Inbox = EMPTY
    estimate: Estimate = estimate_by_length
    tally: Tally | None = None
    user_message: Message | None = None
    purse: Purse | None = None
    telemetry: Telemetry | None = None
    answer: TypedAnswer | None = None
    model_preset: str | None = None
    open_turn: OpenTurn | None = None
    resumes: bool = False
    opened: Callable[[], OpenTurn] = OpenTurn
    join_deltas: bool = False
