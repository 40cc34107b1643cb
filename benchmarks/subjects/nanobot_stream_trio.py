"""This project under Trio, whose answers are streamed and whose sessions are in memory."""

from __future__ import annotations

from functools import partial

import trio
from _bot import bot_for
from _rounds import load
from _streams import read_deltas
from _trio_rounds import trio_rounds


async def main() -> None:
    wanted = load()
    with bot_for(wanted, store="memory") as bot:
        async with bot:
            await trio_rounds(partial(read_deltas, bot), wanted)


trio.run(main)
