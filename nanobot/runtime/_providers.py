"""The model services that one runtime talks to, each opened when it is first needed."""

from __future__ import annotations

import logging
from typing import assert_never

import trio

from nanobot.providers import Provider
from nanobot.providers._select import ModelSelection

__all__ = ["Providers"]

_log = logging.getLogger("nanobot.runtime")


class Providers:
    """One provider per configured service, shared by all runs, so that they share its connections.

    Lives in one Trio run: connections belong to the run that opened them.

    Args:
      given: A provider to use for everything, whatever the configuration says. It outlives the loop that the bot is used
        in, for the bot may be used in another one, and is closed with the bot.
    """

    def __init__(self, given: Provider | None = None) -> None:
        self._given = given
        self._given_too = False
        self._open: dict[str, Provider] = {}

    def provider(self, selection: ModelSelection) -> Provider:
        """The provider to ask for this model.

        Raises:
          ConfigError: Its endpoint cannot be used; the text names the setting.
        """
        if self._given is not None:
            return self._given
        provider = self._open.get(selection.provider_name)
        if provider is None:
            provider = self._open[selection.provider_name] = _make(selection)
        return provider

    def give_up(self) -> None:
        """The bot itself is being closed: from now on `aclose` closes the provider that was handed in as well."""
        self._given_too = True

    async def aclose(self) -> None:
        """Close all of them at once; one that fails to close keeps none of the others open."""
        providers = [*self._open.values()]
        self._open.clear()
        if self._given_too and self._given is not None:
            providers.append(self._given)
        async with trio.open_nursery() as nursery:
            for provider in providers:
                nursery.start_soon(_close, provider)


async def _close(provider: Provider) -> None:
    try:
        await provider.aclose()
    except Exception:  # noqa: BLE001 - perhaps a stranger's provider; the others must still be closed
        _log.exception("provider %s did not close cleanly", provider.name)


def _make(selection: ModelSelection) -> Provider:
    match selection.kind:
        case "openai_chat":
            # deferred: an HTTP client costs 60 ms to import, and a program may never ask this kind of service
            from nanobot.providers.openai_chat import OpenAIChatProvider

            return OpenAIChatProvider(selection.endpoint)
        case "openai_responses":
            # deferred: as above
            from nanobot.providers.openai_responses import OpenAIResponsesProvider

            return OpenAIResponsesProvider(selection.endpoint)
        case "anthropic":
            # deferred: as above
            from nanobot.providers.anthropic import AnthropicProvider

            return AnthropicProvider(selection.endpoint)
        case "local":
            # deferred: as above
            from nanobot.providers.local import LocalProvider

            return LocalProvider(name=selection.provider_name, model=selection.model)
        case _:
            assert_never(selection.kind)
