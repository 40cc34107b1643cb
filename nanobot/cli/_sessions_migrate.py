"""`nanobot sessions migrate`: every session into another store, with a bar to look at and a proof at the end."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Final

import click
from msgspec.structs import replace
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nanobot.sessions import Migrated, SearchableStore, configured_store, migrate_sessions

from ._console import to_stderr
from ._failure import Failure
from ._fold import one_line
from ._instance import Instance

__all__ = ["STORES", "migrate_between"]

STORES: Final = ("sqlite", "postgres")
"""The stores that outlive a process."""

_NAMED: Final = 5


def migrate_between(instance: Instance, source: str, target: str) -> None:
    """Copy all sessions of an instance, and say what came of it.

    Raises:
      Failure: Not all of them are there.
    """
    config = instance.load()
    workspace = instance.workspace_path(config)
    with ExitStack() as stack:

        def opened(kind: str) -> SearchableStore:
            sessions = replace(config.sessions, store=kind)
            store = configured_store(replace(config, sessions=sessions), workspace)
            return stack.enter_context(closing(store))

        migrated = _migrated(opened(source), opened(target))
    click.echo(
        f"{migrated.copied} copied, {migrated.found} there already; "
        f"{migrated.target.sessions} sessions with {migrated.target.messages} messages, sha256 {migrated.target.digest}"
    )
    _refuse_incomplete(migrated)


def _migrated(source: SearchableStore, target: SearchableStore) -> Migrated:
    # deferred: the other commands of this group need no runtime, which takes as long to import as all of theirs
    from nanobot.runtime import OPEN_TURN

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=to_stderr(),
    ) as progress:
        bars = {phase: progress.add_task(phase, total=None) for phase in ("copying", "comparing")}
        return migrate_sessions(
            source,
            target,
            slips=[OPEN_TURN],
            on_progress=lambda phase, done, of: progress.update(
                bars[phase], completed=done, total=of
            ),
        )


def _refuse_incomplete(migrated: Migrated) -> None:
    if migrated.refused:
        raise Failure(
            f"{len(migrated.refused)} sessions are in both stores and differ: {_some(migrated.refused)}.",
            "Those of the target were left as they are. Delete them there, or give them another key, and run this again.",
        )
    if not migrated.complete:
        raise Failure(
            f"{len(migrated.differing)} sessions were written meanwhile: {_some(migrated.differing)}.",
            "Stop what uses the sessions, and run this again: it copies what has changed.",
        )


def _some(keys: tuple[str, ...]) -> str:
    shown = ", ".join(one_line(key) for key in keys[:_NAMED])
    return shown + (", …" if len(keys) > _NAMED else "")
