"""The provider of a configuration, for those who put something around it."""

from __future__ import annotations

import os
from pathlib import Path

from nanobot.config import load_config
from nanobot.providers import DeltaStream, ModelRequest, Provider
from nanobot.providers._select import select_model
from nanobot.runtime import Providers

__all__ = ["configured_provider"]


def configured_provider(
    config_path: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    model_preset: str | None = None,
) -> Provider:
    """The provider that a bot with these arguments would ask, to be recorded or spoiled.

    It opens connections when it is first asked, and belongs to the Trio run that asks.

    Raises: as `Nanobot.from_config`.
    """
    env = dict(os.environ)
    config = load_config(None if config_path is None else Path(config_path), env=env)
    selection = select_model(config, model=model, model_preset=model_preset, env=env)
    providers = Providers()
    return _Owning(providers, providers.provider(selection))


class _Owning:
    """A provider that closes with itself what it was made of."""

    def __init__(self, providers: Providers, provider: Provider) -> None:
        self._providers = providers
        self._provider = provider

    @property
    def name(self) -> str:
        return self._provider.name

    async def open(self, request: ModelRequest) -> DeltaStream:
        return await self._provider.open(request)

    async def aclose(self) -> None:
        await self._providers.aclose()
