"""A plain script without an event loop: ask, go on in the same conversation, and print an answer as it comes.

python examples/sync_script.py "What is in this folder?"
"""

from __future__ import annotations

import sys

from nanobot import STREAM_EVENT_TEXT_DELTA, STREAM_EVENT_TOOL_STARTED, Nanobot


def main() -> None:
    question = " ".join(sys.argv[1:]) or "Which files are in the workspace?"
    with Nanobot.from_config() as bot:
        result = bot.run_sync(question, session_key="script")
        if result.error:
            sys.exit(f"failed: {result.error}")
        print(result.content)
        print(f"[{result.usage['total_tokens']} tokens, tools: {', '.join(result.tools_used)}]")

        with bot.stream_sync("Say that in one sentence.", session_key="script") as events:
            for event in events:
                if event.type == STREAM_EVENT_TEXT_DELTA:
                    print(event.delta, end="", flush=True)
                elif event.type == STREAM_EVENT_TOOL_STARTED:
                    print(f"\n[{event.name}]", flush=True)
        print()


if __name__ == "__main__":
    main()
