"""A command that failed says in one line what went wrong, and in the next what to do."""

from __future__ import annotations

import os
from typing import IO, Any, Final

import click

from nanobot.errors import (
    ApprovalGone,
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    NanobotError,
    NothingToResume,
    ProviderTimeout,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
    StoreError,
    UnknownPreset,
)

__all__ = ["INTERRUPTED", "Failure", "advice", "failure_from_error", "no_colour"]

INTERRUPTED: Final = 130
"""What shells report for a program that Ctrl-C ended: 128 + SIGINT."""

# By the name of the exception, because a run's result carries that name and not the exception.
_ADVICE: Final = {
    ApprovalGone.__name__: "See what waits with: nanobot approvals list",
    AuthenticationFailed.__name__: "Check the key: nanobot status says where it is from.",
    ConnectionFailed.__name__: "Check the network and the provider's apiBase: nanobot status shows it.",
    ConfigError.__name__: "See what would run with: nanobot status; set it up with: nanobot onboard",
    "InvalidConfig": "Correct the file, then run: nanobot status",
    NothingToResume.__name__: "See what turns wait for with: nanobot approvals list",
    ProviderTimeout.__name__: "Try again, or raise providers.<name>.timeouts in the configuration.",
    RateLimited.__name__: "Wait a moment and try again, or choose another model with --model.",
    RequestRejected.__name__: "Check the model's name and its limits: nanobot status shows them.",
    ServiceUnavailable.__name__: "Try again in a moment, or choose another model with --model.",
    StoreError.__name__: "Check that the file and its folder, or the server, can be reached: nanobot status names them.",
    UnknownPreset.__name__: "See them with: nanobot config get modelPresets",
}


class Failure(click.ClickException):
    """What went wrong, and what to do about it; ends the command with exit code 1."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what)
        self.do = do

    def show(self, file: IO[Any] | None = None) -> None:
        """Write both lines to standard error."""
        click.echo(f"{_style('Error:', 'red')} {self.message}", file=file, err=file is None)
        if self.do:
            click.echo(f"{_style('Do:', 'cyan')}    {self.do}", file=file, err=file is None)


def failure_from_error(error: NanobotError) -> Failure:
    """Turn what nanobot raised into what a person at a terminal is told."""
    return Failure(str(error), advice(*(kind.__name__ for kind in type(error).__mro__)))


def advice(*kinds: str) -> str:
    """What to do about an error, given the names of its class and of those above it; "" if nothing is known."""
    return next((_ADVICE[kind] for kind in kinds if kind in _ADVICE), "")


def _style(text: str, colour: str) -> str:
    return text if no_colour() else click.style(text, fg=colour, bold=True)


def no_colour() -> bool:
    """Whether the user asked for none. click itself leaves colours out where there is no terminal."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
