"""Which configuration, workspace and model a command is about: the options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from nanobot.config import Config, load_config, workspace_path

from ._failure import Failure

if TYPE_CHECKING:
    from nanobot import Nanobot

__all__ = ["Instance", "instance_options", "model_options"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Instance(Struct, frozen=True, kw_only=True):
    """What the command line says about the bot; None leaves it to the configuration."""

    config: str | None = None
    workspace: str | None = None
    model: str | None = None
    preset: str | None = None

    def load(self) -> Config:
        """Read the configuration; a file that was named and is not there is a `Failure`."""
        try:
            return load_config(self.config)
        except FileNotFoundError as error:
            raise _missing(error) from error

    def workspace_path(self, config: Config) -> Path:
        """Where tools would work, absolute."""
        configured = config.agents.defaults.workspace
        return workspace_path(configured if self.workspace is None else self.workspace)

    def open(self) -> Nanobot:
        """A bot that can run. The caller closes it."""
        from nanobot import Nanobot  # deferred: 0.2 s

        if self.model is not None and self.preset is not None:
            raise click.UsageError("--model and --preset exclude each other.")
        try:
            return Nanobot.from_config(
                self.config,
                workspace=self.workspace,
                model=self.model,
                model_preset=self.preset,
            )
        except FileNotFoundError as error:
            raise _missing(error) from error

    def open_without_model(self) -> Nanobot:
        """A bot for its sessions and its memory, which needs no provider. The caller closes it."""
        from nanobot import Nanobot  # deferred: 0.2 s
        from nanobot.providers._catalog import EMBEDDED_MODEL  # deferred: comes with it

        from ._no_model import NoModel  # deferred: comes with it

        try:
            # Any model will do, as it is never asked; this one needs no key.
            return Nanobot.from_config(
                self.config,
                workspace=self.workspace,
                model=f"local/{EMBEDDED_MODEL}",
                provider=NoModel(),
                telemetry=False,
            )
        except FileNotFoundError as error:
            raise _missing(error) from error


def _missing(error: FileNotFoundError) -> Failure:
    return Failure(str(error), "Name another file with --config, or make this one: nanobot onboard")


def instance_options(function: FunctionT) -> FunctionT:
    """Add `--config` and `--workspace`."""
    for option in (
        click.option("-w", "--workspace", metavar="FOLDER", help="Folder that tools work in."),
        click.option("-c", "--config", metavar="FILE", help="Configuration to use."),
    ):
        function = option(function)
    return function


def model_options(function: FunctionT) -> FunctionT:
    """Add `--model` and `--preset`."""
    for option in (
        click.option("--preset", metavar="NAME", help="Model preset to use."),
        click.option("--model", metavar="MODEL", help="Model to use, such as openai/gpt-4.1."),
    ):
        function = option(function)
    return function
