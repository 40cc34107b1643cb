"""`nanobot completion`: the line that makes a shell complete commands and options."""

from __future__ import annotations

import os
from pathlib import PurePath

import click
from click.shell_completion import get_completion_class

from ._failure import Failure
from ._main import main

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
def completion(shell: str | None) -> None:
    """Print what makes a shell complete commands and options; without SHELL, for the one in $SHELL.

    \b
    bash:  nanobot completion bash >> ~/.bashrc
    zsh:   nanobot completion zsh >> ~/.zshrc
    fish:  nanobot completion fish > ~/.config/fish/completions/nanobot.fish
    """
    name = shell or PurePath(os.environ.get("SHELL", "")).name
    found = get_completion_class(name)
    if found is None:
        raise Failure(
            "Which shell? $SHELL names none that can be completed for.",
            "Say it: nanobot completion bash, zsh or fish",
        )
    click.echo(found(main, {}, "nanobot", "_NANOBOT_COMPLETE").source())
