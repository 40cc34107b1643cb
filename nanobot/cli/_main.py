"""The `nanobot` command: one line per command, which says where it lives."""

from __future__ import annotations

import click

from nanobot._version import __version__

from ._group import DeferredGroup

__all__ = ["main"]

COMMANDS = {
    "agent": ("nanobot.cli._agent:agent", "Send one message, or talk."),
    "approvals": ("nanobot.cli._approvals:approvals", "Decide what parked turns wait for."),
    "completion": ("nanobot.cli._completion:completion", "Make a shell complete commands."),
    "config": ("nanobot.cli._config:config", "Read and change settings."),
    "demo": ("nanobot.cli._demo:demo", "Ask a local model, then run 1,000 sessions at once."),
    "eval": ("nanobot.cli._eval:evaluate", "Run a file of cases and score the answers."),
    "gateway": ("nanobot.cli._gateway:gateway", "Serve chats over WebSocket, and a page for them."),
    "memory": ("nanobot.cli._memory:memory", "Read and edit what outlives sessions."),
    "onboard": ("nanobot.cli._onboard:onboard", "Set up a provider, a key and a model."),
    "sessions": ("nanobot.cli._sessions:sessions", "Look at sessions, move and delete them."),
    "serve": ("nanobot.cli._serve:serve", "Serve the agent over OpenAI's HTTP API."),
    "status": ("nanobot.cli._status:status", "Say what would run, and what is missing."),
}
"""Name → (`module:attribute`, summary)."""


@click.group(
    cls=DeferredGroup,
    deferred=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(
    __version__, "-v", "--version", prog_name="nanobot", message="%(prog)s %(version)s"
)
@click.pass_context
def main(context: click.Context) -> None:
    """Run an agent around a model.

    New here? `nanobot onboard` sets up a model, `nanobot agent` talks to it.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
