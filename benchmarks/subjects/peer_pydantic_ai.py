"""pydantic-ai, which has no store of its own: its program keeps what is new of each run in SQLite, as its example of a chat does.

The history stays in memory between turns, which costs less than the example, which reads and checks all of it each time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _rounds import asyncio_rounds, load
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class Database:
    """Messages of runs in one table, written in one thread."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = self._thread.submit(self._open, path).result()

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, key TEXT, list TEXT)")
        return connection

    async def add(self, key: str, messages: bytes) -> None:
        """Store what a run added to its history."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._insert, key, messages)

    def _insert(self, key: str, messages: bytes) -> None:
        with self._connection:
            self._connection.execute(
                "INSERT INTO messages (key, list) VALUES (?, ?)", (key, messages)
            )


async def main() -> None:
    wanted = load()
    provider = OpenAIProvider(base_url=f"{wanted.base_url}/v1", api_key="sk-x")
    agent = Agent(OpenAIChatModel("any", provider=provider), instructions="Be brief.")
    histories: dict[str, list[Any]] = {}
    with TemporaryDirectory() as folder:
        database = Database(Path(folder, "messages.db"))

        async def ask(key: str, text: str) -> None:
            result = await agent.run(text, message_history=histories.get(key))
            histories[key] = result.all_messages()
            await database.add(key, result.new_messages_json())
            assert "hello" in result.output, result

        await asyncio_rounds(ask, wanted)


asyncio.run(main())
