"""A benchmark of long-term memory: take in dated conversations, compact them, then ask about them.

Reads cases in the shape of LongMemEval (a JSON list), or one that is built in:

    python examples/longmemeval_ingest.py longmemeval_s.json
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanobot import Nanobot

BUILT_IN: list[dict[str, Any]] = [
    {
        "question_id": "degree",
        "question": "What degree did I graduate with?",
        "question_date": "2023/05/30 (Tue) 23:40",
        "answer": "Business Administration",
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/30 (Tue) 17:27"],
        "haystack_session_ids": ["small_talk_1", "answer_280352e9"],
        "haystack_sessions": [
            [
                {"role": "user", "content": "Recommend a podcast."},
                {"role": "assistant", "content": "Try one on history."},
            ],
            [
                {"role": "user", "content": "I graduated in Business Administration."},
                {"role": "assistant", "content": "Congratulations on your degree."},
            ],
        ],
    }
]


def cases() -> list[dict[str, Any]]:
    if len(sys.argv) < 2:
        return BUILT_IN
    read: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text())
    return read


def messages_of(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    sessions = zip(
        case["haystack_dates"],
        case["haystack_session_ids"],
        case["haystack_sessions"],
        strict=True,
    )
    for day, identity, turns in sessions:
        for turn in turns:
            yield {
                "role": turn["role"],
                "content": turn["content"],
                "timestamp": day,
                "source_session_id": identity,
            }


async def answer(bot: Nanobot, case: dict[str, Any], places: asyncio.Semaphore) -> bool:
    key = f"longmemeval:{case['question_id']}"
    async with places:
        await bot.sessions.ingest(key, list(messages_of(case)), source="longmemeval")
        await bot.runtime.compact_session(key)  # only if it does not fit
        result = await bot.run(
            f"Current Date: {case['question_date']}\nQuestion: {case['question']}",
            session_key=key,
            ephemeral=True,
        )
    right = str(case["answer"]).lower() in result.content.lower()
    print(f"{case['question_id']}: {'right' if right else 'wrong'}: {result.content}")
    return right


async def main() -> None:
    places = asyncio.Semaphore(16)
    async with Nanobot.from_config() as bot:
        right = await asyncio.gather(*(answer(bot, case, places) for case in cases()))
    print(f"{sum(right)} of {len(right)} right")


if __name__ == "__main__":
    asyncio.run(main())
