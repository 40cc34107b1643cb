"""What a message can ask of the gateway instead of the model: `/new`, `/stop`, `/model`, `/history`, `/status`, `/help`."""

from __future__ import annotations

import re
from typing import Any, Final

import trio
from msgspec import Struct

from nanobot import Nanobot

from ._chat import Chat, session_key
from ._history import text_of

__all__ = ["COMMANDS", "Command", "command_in", "command_reply"]

COMMANDS: Final = {
    "new": ("", "forget what was said in this chat and begin anew"),
    "stop": ("", "end the answer, and what waits for one"),
    "model": ("[PRESET]", "the model, or another preset for this chat from now on"),
    "history": ("[N]", "the last messages of this chat"),
    "status": ("", "the model, this chat and the runtime"),
    "help": ("", "this list"),
}
"""Name → (argument, what it does)."""

_SHAPE: Final = re.compile(r"/([a-z]+)(?: +(\S+))?", re.IGNORECASE)
_SHOWN: Final = 10
_MOST_SHOWN: Final = 50
_LINE_CHARS: Final = 200
_NAMES: Final = {"user": "You", "assistant": "nanobot"}


class Command(Struct, frozen=True):
    """A command and what follows it."""

    name: str
    argument: str = ""


def command_in(text: str) -> Command | None:
    """The command that a message is. All else that begins with a slash, such as a path, is for the model, and so is a
    command's name with more behind it than it takes.
    """
    shape = _SHAPE.fullmatch(text.strip())
    if shape is None or (name := shape[1].lower()) not in COMMANDS:
        return None
    argument = shape[2] or ""
    return Command(name, argument) if not argument or COMMANDS[name][0] else None


async def command_reply(command: Command, chat: Chat, bot: Nanobot) -> str:
    """Carry out a command, at once, whatever waits; returns what to say of it, as markdown that reads well as it stands.

    Raises:
      StoreError: The session cannot be read or written.
    """
    match command.name:
        case "new":
            chat.cancel()
            chat.forget()
            if not chat.temporary:
                await trio.to_thread.run_sync(bot.sessions.delete, session_key(chat.chat_id))
            return "A new conversation begins here."
        case "stop":
            if not chat.busy:
                return "Nothing is under way."
            chat.cancel()
            return "Stopped."
        case "model":
            return await _model(command.argument, chat, bot)
        case "history":
            return _history(command.argument, await chat.messages())
        case "status":
            runtime = bot.runtime.statistics()
            return (
                f"- Model: {await _used(chat, bot)}\n"
                f"- This chat: {len(await chat.messages())} messages, {'busy' if chat.busy else 'idle'}\n"
                f"- Runtime: {runtime.running} running, {runtime.queued} queued"
            )
        case _:
            return "\n".join(
                f"- {f'`/{name} {argument}`' if argument else f'`/{name}`'}: {told}"
                for name, (argument, told) in COMMANDS.items()
            )


async def _model(name: str, chat: Chat, bot: Nanobot) -> str:
    presets = bot.runtime.presets
    listed = ", ".join(f"`{preset}`" for preset in presets)
    if not name:
        return f"This chat uses {await _used(chat, bot)}. Presets: {listed}."
    if name not in presets:
        return f"There is no preset `{name[:_LINE_CHARS]}`. Presets: {listed}."
    chat.use_preset(name)
    return f"This chat uses the preset `{name}` from its next message on."


async def _used(chat: Chat, bot: Nanobot) -> str:
    preset = await chat.preset()
    return f"the preset `{preset}`" if preset else bot.runtime.model


def _history(count: str, messages: list[dict[str, Any]]) -> str:
    limit = int(count) if count.isascii() and count.isdecimal() and len(count) < 4 else _SHOWN
    lines = [
        f"- **{_NAMES[message['role']]}:** {said}"
        for message in messages
        if message.get("role") in _NAMES and (said := _line(text_of(message.get("content"))))
    ]
    return "\n".join(lines[-max(1, min(limit, _MOST_SHOWN)) :]) or "Nothing has been said here."


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LINE_CHARS else f"{line[: _LINE_CHARS - 1]}…"
