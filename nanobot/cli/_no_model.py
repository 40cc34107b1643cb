"""A provider for commands that read and administer, and never ask a model."""

from __future__ import annotations

from nanobot.errors import UsageError
from nanobot.providers import DeltaStream, ModelRequest

__all__ = ["NoModel"]


class NoModel:
    """Stands where a model would be asked; whoever does ask made a mistake."""

    @property
    def name(self) -> str:
        """No provider's name."""
        return "nobody"

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Refuse."""
        raise UsageError("this command has no model to ask")

    async def aclose(self) -> None:
        """Nothing is open."""
