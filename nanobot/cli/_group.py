"""A command group that knows its commands by name, imports one only to run it, and ends with an exit code to trust."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

import click
from click.shell_completion import CompletionItem

from nanobot.errors import NanobotError

from ._failure import INTERRUPTED, Failure, failure_from_error

__all__ = ["DeferredGroup"]


class DeferredGroup(click.Group):
    """A command group that starts quickly, however heavy its commands are.

    `--help`, `--version` and shell completion import no command; running a command imports that one. Exit codes: 0 if
    it worked, 1 if it failed, 2 for a command line that cannot be meant, 130 after Ctrl-C.
    """

    def __init__(self, *args: Any, deferred: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        """`deferred` is name → (`module:attribute`, the line that `--help` shows without going there)."""
        super().__init__(*args, **kwargs)
        self._deferred = dict(deferred)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the alphabet."""
        return sorted(self._deferred)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the named command; None if there is no command of that name."""
        if cmd_name not in self._deferred:
            return None
        module, _, attribute = self._deferred[cmd_name][0].partition(":")
        return cast(click.Command, getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries from the table: to ask the commands, click would import them all."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self._deferred[name][1]) for name in self.list_commands(ctx)]
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name from the table, for the same reason."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=self._deferred[name][1]) for name in names] + (
            click.Command.shell_complete(self, ctx, incomplete)
        )

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line. As a program, end the process; errors that nanobot raises are shown, not traced."""

        def run() -> Any:
            return super(DeferredGroup, self).main(
                args, prog_name, complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return run()
        try:
            code = run()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort as error:  # Ctrl-C, or the end of input where an answer was asked for
            sys.exit(1 if isinstance(error.__cause__, EOFError) else INTERRUPTED)
        except NanobotError as error:
            _fail(failure_from_error(error))
        sys.exit(code if isinstance(code, int) else 0)


def _fail(failure: Failure) -> NoReturn:
    failure.show()
    sys.exit(failure.exit_code)
