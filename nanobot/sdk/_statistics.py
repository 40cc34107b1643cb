"""Looking at a bot's runtime from wherever the caller is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from nanobot.runtime import Runtime, RuntimeStatistics

from ._blueprint import Blueprint
from ._engine import Engine

__all__ = ["read_statistics", "steady"]

T = TypeVar("T")

_LOOKS: Final = 100
"""How often a look is tried again. Copying a container takes microseconds, and only a garbage collection that runs other
people's code can let the owner change it halfway: twice in a row was never seen."""


def read_statistics(engine: Engine, blueprint: Blueprint) -> RuntimeStatistics:
    """The statistics of the bot that is made of these two. From any thread; waits for nobody."""
    runtime = engine.runtime
    if runtime is None or runtime.forked:
        return RuntimeStatistics(turns=blueprint.turns.totals)
    return steady(lambda: _read(runtime, blueprint))


def _read(runtime: Runtime, blueprint: Blueprint) -> RuntimeStatistics:
    return RuntimeStatistics(
        sessions=runtime.sessions(),
        runs=runtime.runs(),
        lock=runtime.lock_state(),
        connections=blueprint.turn_maker(runtime).providers.connections(),
        turns=blueprint.turns.totals,
        places=runtime.place_state(),
    )


def steady(look: Callable[[], T]) -> T:
    """Look again if what is looked at was changed by its own thread in the middle of it."""
    for _ in range(_LOOKS):
        try:
            return look()
        except RuntimeError:  # "changed size during iteration"
            continue
    return look()
