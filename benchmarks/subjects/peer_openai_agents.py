"""openai-agents, with its SQLite sessions in one file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from _rounds import asyncio_rounds, load
from agents import Agent, OpenAIChatCompletionsModel, Runner, SQLiteSession, set_tracing_disabled
from openai import AsyncOpenAI


async def main() -> None:
    wanted = load()
    set_tracing_disabled(disabled=True)
    client = AsyncOpenAI(base_url=f"{wanted.base_url}/v1", api_key="sk-x")
    agent = Agent(
        name="agent",
        instructions="Be brief.",
        model=OpenAIChatCompletionsModel(model="any", openai_client=client),
    )
    with TemporaryDirectory() as folder:
        path = Path(folder, "sessions.db")

        sessions: dict[str, SQLiteSession] = {}

        async def ask(key: str, text: str) -> None:
            if (session := sessions.get(key)) is None:
                session = sessions[key] = SQLiteSession(key, path)
            result = await Runner.run(agent, text, session=session)
            assert "hello" in result.final_output, result

        await asyncio_rounds(ask, wanted)


asyncio.run(main())
