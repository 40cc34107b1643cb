"""nanobot-ai as the registry has it: the system that users of this one come from. Sessions are its JSONL files."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from _rounds import asyncio_rounds, load


async def main() -> None:
    wanted = load()
    with TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        settings = {
            "agents": {
                "defaults": {
                    "workspace": f"{folder}/workspace",
                    "model": "any",
                    "provider": "custom",
                }
            },
            "providers": {"custom": {"apiKey": "sk-x", "apiBase": f"{wanted.base_url}/v1"}},
        }
        config.write_text(json.dumps(settings))  # noqa: ASYNC240 - before anything is measured
        # By name: to a type checker `nanobot` is this project, here it is the peer's.
        bot = importlib.import_module("nanobot.nanobot").Nanobot.from_config(config)

        async def ask(key: str, text: str) -> None:
            result = await bot.run(text, session_key=key)
            assert "hello" in result.content, result

        await asyncio_rounds(ask, wanted)


asyncio.run(main())
