"""One agent that has others do parts of the work, and puts together what they found.

Subagents run at once, with the same tools, and end with the run that started them. Their iterations and tool calls
pass through the run's hooks, so one hook sees what everybody does.
"""

from __future__ import annotations

import asyncio

from nanobot import Nanobot
from nanobot.agent import AgentHook, AgentHookContext


class Watch(AgentHook):
    async def before_execute_tools(self, context: AgentHookContext) -> None:
        who = "subagent" if "/subagent/" in context.session_key else "agent"
        for call in context.tool_calls:
            print(f"[{who}] {call.name} {call.arguments.get('task', '')}".rstrip())


async def main() -> None:
    async with Nanobot.from_config() as bot:
        result = await bot.run(
            "Compare notes.txt with plan.md: have one subagent describe each of them.",
            hooks=[Watch()],
        )
        print(result.content)
        spent = result.metadata["subagents"]
        print(f"{spent['runs']} subagents, {spent['usage']['total_tokens']} of their tokens")


if __name__ == "__main__":
    asyncio.run(main())
