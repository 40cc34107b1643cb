"""From text to values: checked, typed, and with the reason if the model cannot do it."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

from nanobot import Nanobot
from nanobot.errors import NoOutput


class Item(Struct):
    name: str
    quantity: Annotated[int, Meta(ge=1)] = 1


class Request(Struct):
    """What a customer wants."""

    customer: str
    kind: Literal["order", "complaint", "question"]
    items: list[Item] = []
    due: date | None = None


LETTERS = [
    "Hi, this is Ada. Please send me two lamps and a chair before 2026-12-24!",
    "My kettle leaks. Not happy. - Charles",
    "???",
]


async def extract(bot: Nanobot, number: int, letter: str) -> None:
    result = await bot.run(
        f"Extract what the customer wants.\n\n{letter}",
        output_type=Request,
        output_retries=1,
        session_key=f"letter:{number}",
        ephemeral=True,
    )
    try:
        request = result.output
    except NoOutput as failed:
        print(f"{number}: by hand, please ({len(failed.raw)} characters of an answer)")
        return
    wanted = ", ".join(f"{item.quantity} x {item.name}" for item in request.items)
    print(f"{number}: {request.kind} by {request.customer}: {wanted or '-'}, due {request.due}")


async def main() -> None:
    async with Nanobot.from_config() as bot:
        for number, letter in enumerate(LETTERS, start=1):
            await extract(bot, number, letter)


if __name__ == "__main__":
    asyncio.run(main())
