"""What runs and sessions may spend, and what a session has spent."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import trio
from msgspec import Struct

from nanobot.agent import Allowance, Budget, OpenTurn, Purse, Tally, estimate_by_length
from nanobot.errors import StoreError
from nanobot.providers._select import ModelSelection

from ._open_sessions import OpenSession

__all__ = ["SPENT", "Budgets", "Spent", "note_spending", "purse_of", "spent_before", "spent_by"]

_log = logging.getLogger("nanobot.runtime")

SPENT: Final = "spent"
"""The entry of a session's metadata that says what its runs have spent: `{"tokens": 1234, "usd": 0.05}`."""

_NOTE_WITHIN_S: Final = 5.0
"""How long noting it may hold up a run that was cancelled."""


class Budgets(Struct, frozen=True):
    """The configured budgets; a run may bring its own. None is no limit."""

    run: Budget | None = None
    session: Budget | None = None


class Spent(Struct, frozen=True):
    """What all runs of a session have spent together, as far as it was counted."""

    tokens: int = 0
    usd: float = 0.0


def spent_by(metadata: Mapping[str, Any]) -> Spent:
    """Read what a session has spent; entries that are none of ours count for nothing."""
    entry = metadata.get(SPENT)
    if not isinstance(entry, Mapping):
        return Spent()
    tokens, usd = entry.get("tokens"), entry.get("usd")
    return Spent(
        tokens if isinstance(tokens, int) and tokens > 0 else 0,
        usd if isinstance(usd, int | float) and 0 < usd < math.inf else 0.0,
    )


def spent_before(noted: Spent, left: OpenTurn, *, goes_on: bool) -> Spent:
    """What a session had spent before a run, when there is a turn that was left open.

    Args:
      noted: What its metadata say. They may know of that turn, or not if its process died.
      left: That turn.
      goes_on: Whether the run goes on with it, so that what it has spent is the run's own; else it is over.
    """
    if left.session_spent is None:
        return noted
    before = Spent(*left.session_spent)
    if goes_on:
        return before
    tally = Tally(estimate_by_length)
    tally.go_on_from(left.spent)
    return Spent(
        max(noted.tokens, before.tokens + tally.usage.total_tokens),
        max(noted.usd, before.usd + (tally.cost_usd or 0.0)),
    )


def purse_of(
    run: Budget | None,
    session: Budget | None,
    spent: Spent,
    selection: ModelSelection,
    *,
    ratio: float,
) -> Purse | None:
    """What a turn may spend; None if nothing bounds it. `ratio` is as in `Purse`."""
    allowances = []
    if run is not None:
        allowances.append(Allowance(budget=run, of="run"))
    if session is not None:
        allowances.append(
            Allowance(budget=session, of="session", spent_tokens=spent.tokens, spent_usd=spent.usd)
        )
    if not allowances:
        return None
    asked = [(one.provider_name, one.model) for one in (selection, *selection.fallbacks)]
    return Purse(allowances, asked, ratio=ratio)


async def note_spending(session: OpenSession, before: Spent, tally: Tally) -> None:
    """Note what a turn has spent in its session's metadata; a store that cannot is only logged.

    Done also in a cancelled run, for five seconds at most.
    """
    if not tally.usage.total_tokens:
        return
    entry = {
        "tokens": before.tokens + tally.usage.total_tokens,
        "usd": before.usd + (tally.cost_usd or 0.0),
    }
    with trio.move_on_after(_NOTE_WITHIN_S, shield=True) as scope:
        try:
            await session.write(metadata={SPENT: entry})
        except StoreError as error:
            _log.error("what session %.200r has spent is not stored: %s", session.key, error)
    if scope.cancelled_caught:
        _log.error("what session %.200r has spent is not stored in time", session.key)
