"""What is known of a turn on its way from a request to its first step."""

from __future__ import annotations

from msgspec import Struct

from nanobot.agent import Tally, Turn, TypedAnswer
from nanobot.context import SystemPrompt, TextCounter
from nanobot.messages import Message, UserMessage
from nanobot.providers import Provider
from nanobot.sessions import Position
from nanobot.tools import Toolset

from ._history_room import HistoryRoom
from ._history_view import HistoryView
from ._open_sessions import Ahead
from ._spending import Spent
from ._subagents import Subagents

__all__ = ["BegunTurn", "TurnFrame", "TurnPlan"]


class TurnFrame(Struct, frozen=True):
    """What a turn's first request has around the history.

    Attributes:
      opening: The system prompt, what is shown of the workspace's history, and the user's message if there is one.
      tokens: What they and the tools cost.
      count: What counted them.
      room: What is left for the history.
    """

    opening: list[Message]
    tokens: int
    count: TextCounter
    room: HistoryRoom


class TurnPlan(Struct):
    """What is known of a turn before its session is open.

    Attributes:
      started: When the run began, on Trio's clock.
      provider: The model service.
      toolset: What the model may call.
      answer: The type that the answer is to have.
      tally: Counts the turn's tokens.
      prompt: The system prompt.
      user: The user's message with its note; None if the turn goes on with one that was begun.
      known: The session's history, if it is remembered, and `known_at` where that stands.
      framed: What goes around that history.
      ahead: What may be stored with the session's lease.
    """

    started: float
    provider: Provider
    toolset: Toolset
    answer: TypedAnswer | None
    tally: Tally
    prompt: SystemPrompt
    user: UserMessage | None
    known: HistoryView | None = None
    known_at: Position | None = None
    framed: TurnFrame | None = None
    ahead: Ahead | None = None


class BegunTurn(Struct, frozen=True):
    """A turn that can be run, with what is needed once it has ended.

    Attributes:
      turn: The turn.
      subagents: Those that it may start.
      tally: What the run costs.
      spent: What the session had spent before.
      estimated: The tokens of its first request, as estimated.
      requests: How many requests the run had made before, for a compaction.
      counted: The tokens of those that services counted.
    """

    turn: Turn
    subagents: Subagents
    tally: Tally
    spent: Spent
    estimated: int
    requests: int
    counted: int
