"""agno, with its SQLite database and the session's history in the prompt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from _rounds import asyncio_rounds, load
from agno.agent import Agent
from agno.db.sqlite import AsyncSqliteDb
from agno.models.openai.like import OpenAILike


async def main() -> None:
    wanted = load()
    with TemporaryDirectory() as folder:
        agent = Agent(
            model=OpenAILike(id="any", base_url=f"{wanted.base_url}/v1", api_key="sk-x"),
            db=AsyncSqliteDb(db_file=str(Path(folder, "sessions.db"))),
            add_history_to_context=True,
            num_history_runs=1_000,
            instructions="Be brief.",
            telemetry=False,
        )

        async def ask(key: str, text: str) -> None:
            result = await agent.arun(text, session_id=key)
            assert "hello" in str(result.content), result

        await asyncio_rounds(ask, wanted)


asyncio.run(main())
