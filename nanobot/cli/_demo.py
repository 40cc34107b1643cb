"""`nanobot demo`: one real answer from a model on this machine, then a thousand sessions at once."""

from __future__ import annotations

import sys

import click

from nanobot.errors import ConfigError

__all__ = ["demo"]

QUESTION = "What is an event loop? Answer in two sentences."


@click.command()
@click.option(
    "--sessions", default=1000, show_default=True, help="Sessions at once.", type=click.IntRange(10)
)
@click.option("--question", default=QUESTION, help="What to ask the local model.")
def demo(sessions: int, question: str) -> None:
    """Ask a local model, then run 1,000 sessions at once."""
    # deferred: the SDK takes half a second to import, and --help needs none of it
    from ._demo_run import show_demo

    try:
        went_well = show_demo(sessions, question)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if went_well else 1)
