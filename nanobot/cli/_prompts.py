"""Questions at the terminal: what was answered, or the wish to go back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click
from rich.text import Text

from nanobot.providers._catalog import ProviderEntry
from nanobot.providers._configured import Configured

from ._console import to_stderr
from ._failure import Failure
from ._onboarding import choices, entry_from_name, key_from_text

__all__ = ["BACK", "Back", "ask_key", "ask_provider", "ask_text", "ask_yes"]

BACK: Final = "<"
"""What is typed to see the question before again."""

_LISTED: Final = 12


class Back(Exception):
    """The question before is to be asked again."""


def ask_text(text: str, proposed: str | None, *, back: bool = False) -> str:
    """Ask for a line; Enter takes what is proposed.

    Raises:
      Back: With `back`, if that was typed.
    """
    said: str = click.prompt(text, default=proposed, err=True)
    return _unless_back(said.strip(), back)


def ask_yes(text: str, proposed: bool, *, back: bool = False) -> bool:
    """Ask for yes or no; Enter takes what is proposed. Raises as `ask_text`."""
    while True:
        said = ask_text(f"{text} (y/n)", "y" if proposed else "n", back=back).lower()
        if said in ("y", "yes"):
            return True
        if said in ("n", "no"):
            return False
        click.echo("y or n?", err=True)


def ask_provider(
    current: str, configured: Sequence[Configured], *, back: bool = False
) -> ProviderEntry:
    """Show who could serve a model, and ask who is to. Raises as `ask_text`."""
    console = to_stderr()
    listed = choices(configured)
    for number, one in enumerate(listed[:_LISTED], start=1):
        state = "ready" if one.ready else ""
        console.print(
            Text.assemble(
                (f"  {number:>2}  ", "cyan"),
                f"{one.entry.label:<22}",
                (f"{one.key_source or state}", "green" if one.ready else "dim"),
            )
        )
    rest = ", ".join(sorted(one.name for one in listed[_LISTED:]))
    console.print(Text(f"  or: {rest},\n  or any other name for a service of your own", "dim"))
    proposed = current if current != "auto" else listed[0].name if listed[0].ready else None
    while True:
        said = ask_text("Provider", proposed, back=back)
        if said.isdigit() and 1 <= int(said) <= min(_LISTED, len(listed)):
            return listed[int(said) - 1].entry
        try:
            return entry_from_name(said)
        except Failure as failure:
            failure.show()


def ask_key(entry: ProviderEntry, one: Configured | None, *, back: bool = False) -> str:
    """Ask for the key; "" leaves what is there, in the configuration or in the environment. Raises as `ask_text`."""
    if not entry.needs_key and entry.kind == "local":
        return ""
    if one is not None and one.api_key:
        if ask_yes(f"Key: take the one from {one.key_source}", True, back=back):
            return ""
    elif not entry.needs_key:
        return key_from_text(_hidden("Key (not shown; Enter for none)", back))
    example = f"${entry.env_keys[0]}" if entry.env_keys else "$VARIABLE"
    while not (said := _hidden(f"Key (not shown; {example} takes it from there)", back)):
        click.echo("It needs one.", err=True)
    return key_from_text(said)


def _hidden(text: str, back: bool) -> str:
    said: str = click.prompt(text, default="", show_default=False, hide_input=True, err=True)
    return _unless_back(said.strip(), back)


def _unless_back(said: str, back: bool) -> str:
    if back and said == BACK:
        raise Back
    return said
