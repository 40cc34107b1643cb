"""This project under asyncio."""

from __future__ import annotations

import asyncio

from _bot import bot_for
from _rounds import asyncio_rounds, load


async def main() -> None:
    wanted = load()
    with bot_for(wanted) as bot:
        async with bot:

            async def ask(key: str, text: str) -> None:
                result = await bot.run(text, session_key=key)
                assert result.error is None, result.error

            await asyncio_rounds(ask, wanted)


asyncio.run(main())
