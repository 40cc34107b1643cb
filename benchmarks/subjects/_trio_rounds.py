"""The rounds of a subject that lives under Trio."""

from __future__ import annotations

import trio
from _rounds import Ask, Load, rounds

__all__ = ["trio_rounds"]


async def trio_rounds(ask: Ask, wanted: Load) -> None:
    """Run all rounds."""

    async def several(key: str, turns: int) -> None:
        for _ in range(turns):
            await ask(key, "What is it like?")

    for one in rounds():
        keys = one.keys(wanted.sessions)
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(several, key, 1)
        one.start()
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(several, key, wanted.turns)
        one.end(wanted.sessions * wanted.turns)
