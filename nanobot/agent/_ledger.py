"""What a turn has cost so far, to be kept with it: whoever goes on with the turn goes on counting. Plain data."""

from __future__ import annotations

from msgspec import Struct

from nanobot.messages import Usage

from ._attempt import Attempt

__all__ = ["Ledger"]


class Ledger(Struct, frozen=True, omit_defaults=True):
    """The lines of a `Tally` that are final.

    Attributes:
      attempts: All that have ended, those of subagents included.
      subagents: How many runs of subagents are among them.
      subagent_usage: Their part of the tokens.
    """

    attempts: tuple[Attempt, ...] = ()
    subagents: int = 0
    subagent_usage: Usage = Usage()
