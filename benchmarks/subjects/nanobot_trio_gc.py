"""This project under Trio, in a program that makes Python look for garbage seldom."""

from __future__ import annotations

import trio
from _bot import bot_for
from _rounds import load
from _trio_rounds import trio_rounds

from nanobot.runtime import collect_seldom


async def main() -> None:
    wanted = load()
    with bot_for(wanted) as bot:
        async with bot:
            collect_seldom()

            async def ask(key: str, text: str) -> None:
                result = await bot.run(text, session_key=key)
                assert result.error is None, result.error

            await trio_rounds(ask, wanted)


trio.run(main)
