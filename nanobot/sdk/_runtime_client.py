"""What a bot tells about itself."""

from __future__ import annotations

from pathlib import Path

from nanobot.providers._select import ModelSelection

__all__ = ["RuntimeClient"]


class RuntimeClient:
    """`bot.runtime`."""

    def __init__(self, selection: ModelSelection, workspace: Path) -> None:
        self._selection = selection
        self._workspace = workspace

    @property
    def model(self) -> str:
        """The bot's model, as configured. Overrides for single runs never change it."""
        return self._selection.display_model

    @property
    def workspace(self) -> Path:
        """The folder that tools work in, absolute."""
        return self._workspace

    @property
    def notice(self) -> str:
        """What the user should know about the choice of model, or ""."""
        return self._selection.notice
