"""The command group: it knows every command by name, and imports one only to run it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import click

from nanobot._version import __version__

__all__ = ["DeferredCommand", "DeferredGroup", "main"]


@dataclass(frozen=True, slots=True)
class DeferredCommand:
    """Where a command lives, and the line that `--help` shows without going there."""

    module: str
    attribute: str
    summary: str


class DeferredGroup(click.Group):
    """A command group that starts quickly, however heavy its commands are.

    `--help` and `--version` import no command; running a command imports that one.
    """

    def __init__(self, *args: Any, deferred: Mapping[str, DeferredCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deferred = dict(deferred)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the alphabet."""
        return sorted(self._deferred)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the named command; None if there is no command of that name."""
        if cmd_name not in self._deferred:
            return None
        place = self._deferred[cmd_name]
        return cast(click.Command, getattr(importlib.import_module(place.module), place.attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries from the table: to ask the commands, click would import them all."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self._deferred[name].summary) for name in self.list_commands(ctx)]
            )


@click.group(
    cls=DeferredGroup,
    deferred={
        "demo": DeferredCommand(
            "nanobot.cli._demo", "demo", "Ask a local model, then run 1,000 sessions at once."
        ),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="nanobot", message="%(prog)s %(version)s")
def main() -> None:
    """Run an agent around a model."""
