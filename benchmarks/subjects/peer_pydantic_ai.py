"""pydantic-ai, which has no store of its own: the history is a list that the program keeps, in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from _rounds import asyncio_rounds, load
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main() -> None:
    wanted = load()
    provider = OpenAIProvider(base_url=f"{wanted.base_url}/v1", api_key="sk-x")
    agent = Agent(OpenAIChatModel("any", provider=provider), instructions="Be brief.")
    histories: dict[str, list[Any]] = {}

    async def ask(key: str, text: str) -> None:
        result = await agent.run(text, message_history=histories.get(key))
        histories[key] = result.all_messages()
        assert "hello" in result.output, result

    await asyncio_rounds(ask, wanted)


asyncio.run(main())
