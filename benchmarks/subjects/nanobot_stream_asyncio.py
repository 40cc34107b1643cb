"""This project under asyncio, whose answers are streamed and whose sessions are in memory."""

from __future__ import annotations

import asyncio
from functools import partial

from _bot import bot_for
from _rounds import asyncio_rounds, load
from _streams import read_deltas


async def main() -> None:
    wanted = load()
    with bot_for(wanted, store="memory") as bot:
        async with bot:
            await asyncio_rounds(partial(read_deltas, bot), wanted)


asyncio.run(main())
