"""This project under Trio, with one tool that it offers the model, whether or not that calls it."""

from __future__ import annotations

import trio
from _bot import bot_for
from _rounds import load
from _trio_rounds import trio_rounds

from nanobot import tool


@tool(read_only=True, on_host=False)
async def look() -> str:
    """Look around."""
    return "It is all there."


async def main() -> None:
    wanted = load()
    calls = ["look"] if "tool=look" in wanted.base_url else []
    with bot_for(wanted) as bot:
        async with bot:

            async def ask(key: str, text: str) -> None:
                result = await bot.run(text, session_key=key, tools=[look])
                assert result.error is None, result.error
                assert result.tools_used == calls, result.tools_used

            await trio_rounds(ask, wanted)


trio.run(main)
