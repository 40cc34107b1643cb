"""What a line typed into a conversation means. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["COMMANDS", "Command", "Mistyped", "Say", "read_line"]

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "new": ("", "begin a new session; the old one is kept"),
    "stop": ("", "stop the turn, as Ctrl-C does"),
    "status": ("", "what runs, and where"),
    "model": ("[NAME]", "show the model, or take another model or preset from now on"),
    "sessions": ("[KEY]", "list the sessions, or go on with one of them"),
    "compact": ("", "replace the older part of the session by a summary"),
    "help": ("", "this list"),
    "exit": ("", "leave; so does Ctrl-D"),
}
"""Name → (argument, what it does)."""

_ALIASES: Final = {"quit": "exit", "q": "exit", "?": "help"}
_LEAVE: Final = frozenset({"exit", "quit", ":q"})  # what fingers type by themselves


class Say(Struct, frozen=True):
    """Text for the model."""

    text: str


class Command(Struct, frozen=True):
    """A command of the conversation, with what follows it."""

    name: str
    argument: str = ""


class Mistyped(Struct, frozen=True):
    """Looks like a command, and is none."""

    word: str


def read_line(line: str) -> Say | Command | Mistyped | None:
    """Tell commands from text; None for an empty line.

    A line is a command if it begins with `/` and one word; a path such as `/usr/bin` is text, and so is whatever begins
    with a space.
    """
    if not line.strip():
        return None
    if line.strip() in _LEAVE:
        return Command("exit")
    if not line.startswith("/"):
        return Say(line.strip())
    word, _, argument = line[1:].rstrip().partition(" ")
    name = _ALIASES.get(word.lower(), word.lower())
    if name in COMMANDS:
        return Command(name, argument.strip())
    if "/" in word or not word:
        return Say(line.strip())
    return Mistyped(word)
