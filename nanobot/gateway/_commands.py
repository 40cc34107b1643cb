"""What a message can ask of the gateway instead of the model: `/new`, `/stop`, `/status`, `/help`."""

from __future__ import annotations

from typing import Final

import trio

from nanobot import Nanobot

from ._chat import Chat, session_key

__all__ = ["COMMANDS", "command_in", "command_reply"]

COMMANDS: Final = {
    "new": "forget what was said in this chat and begin anew",
    "stop": "end the answer, and what waits for one",
    "status": "the model, this chat and the runtime",
    "help": "this list",
}


def command_in(text: str) -> str:
    """The command that a message is, or "". All else that begins with a slash, such as a path, is for the model."""
    word = text.strip().lower()
    return word[1:] if word.startswith("/") and word[1:] in COMMANDS else ""


async def command_reply(command: str, chat: Chat, bot: Nanobot) -> str:
    """Carry out a command, at once, whatever waits; returns what to say of it.

    Raises:
      StoreError: The session cannot be read or written.
    """
    match command:
        case "new":
            chat.cancel()
            chat.forget_transcript()
            if not chat.temporary:
                await trio.to_thread.run_sync(bot.sessions.delete, session_key(chat.chat_id))
            return "A new conversation begins here."
        case "stop":
            if not chat.busy:
                return "Nothing is under way."
            chat.cancel()
            return "Stopped."
        case "status":
            stored = await trio.to_thread.run_sync(bot.sessions.get, session_key(chat.chat_id))
            messages = 0 if stored is None else len(stored.messages)
            runtime = bot.runtime.statistics()
            return (
                f"Model: {bot.runtime.model}\n"
                f"This chat: {messages} messages, {'busy' if chat.busy else 'idle'}\n"
                f"Runtime: {runtime.running} running, {runtime.queued} queued"
            )
        case _:
            return "\n".join(f"/{name}: {told}" for name, told in COMMANDS.items())
