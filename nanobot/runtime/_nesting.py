"""Runs inside runs: which of them can only deadlock.

A run started by a tool, a hook or a subagent of another run is nested in it. It shares its root's hold of the lock, for the
root may be waiting for it, and it goes ahead of runs that have not started, for they may be waiting for the root. What is
left to go wrong is a circle: everyone in it waits for the next. It is looked for when a nested run is posted, and the run
that would close it is refused. Whoever waits, inside a run, for the end of that run is in such a circle too; so is a run of
another bot that keeps its sessions in the same place, and wants the session that a run around it has open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import trio

from nanobot.errors import NestedRunRefused
from nanobot.sessions import SessionStore, keep_the_same

from ._run import CURRENT_RUN, Run

__all__ = ["Blockers", "enclosing_runs", "refusal", "refuse_open_around"]

Blockers = Callable[[Run], Iterable[Run]]
"""For a run that waits in a mailbox: the runs before it that it must wait for. For a running one: its live children."""


def refusal(run: Run, blockers: Blockers) -> NestedRunRefused | None:
    """Why a nested run must not be posted, or None if it may.

    `blockers(run)` already counts `run` as standing in its session's mailbox.
    """
    parent = run.parent
    if parent is not None and run.exclusive and (parent.hold is None or not parent.hold.exclusive):
        return NestedRunRefused(
            "a run with `model` or `model_preset` cannot start inside a run without: it would wait for every other run to end,"
            " and so for the one it is in. Give the outer run the override too, or set agents.defaults.overridePolicy to"
            ' "isolated".'
        )
    ancestors = set(run.enclosing())
    seen: set[Run] = set()
    waiting_for = [*blockers(run)]
    while waiting_for:
        blocker = waiting_for.pop()
        if blocker in ancestors:
            return _busy_until_the_outer_run_has_ended(run)
        if blocker not in seen:
            seen.add(blocker)
            waiting_for.extend(blockers(blocker))
    return None


async def refuse_open_around(run: Run, store: SessionStore) -> None:
    """See that the run's session is not open in a run around it. Of the same bot, `refusal` would have told.

    Raises:
      NestedRunRefused: It is.
    """
    for outer in run.enclosing():
        if outer.opened is None or outer.session_key != run.session_key:
            continue
        if await trio.to_thread.run_sync(keep_the_same, outer.opened, store):
            raise _busy_until_the_outer_run_has_ended(run)


def enclosing_runs() -> Iterator[Run]:
    """The runs that have not ended and in whose code this is called, be it a tool's or a hook's; the inmost first."""
    run = CURRENT_RUN.get()
    if run is not None:
        if not run.settled:
            yield run
        yield from run.enclosing()


def _busy_until_the_outer_run_has_ended(run: Run) -> NestedRunRefused:
    return NestedRunRefused(
        f"a run on session {run.session_key!r} cannot start here: that session is busy until the run that this one is"
        " nested in has ended. Use another session_key, or start it after the outer run."
    )
