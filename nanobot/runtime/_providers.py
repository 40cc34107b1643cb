"""The model services that one runtime talks to, each opened when it is first needed."""

from __future__ import annotations

import logging
from typing import assert_never

import trio

from nanobot.config import AgentDefaults
from nanobot.providers import (
    Candidate,
    Circuit,
    Fallback,
    Limited,
    Limiter,
    Primed,
    Provider,
    Retrying,
    RetryPolicy,
)
from nanobot.providers._connection_count import ConnectionCount, connections_of
from nanobot.providers._retry import PATIENT, STANDARD
from nanobot.providers._select import ModelSelection

__all__ = ["Providers", "retry_policy"]

_log = logging.getLogger("nanobot.runtime")


class Providers:
    """One provider per configured service, shared by all runs, so that they share its connections, its limits and what was
    learned of it.

    Lives in one Trio run: connections belong to the run that opened them.

    Args:
      given: A provider to use for everything, as it is, whatever the configuration says. It outlives the loop that the bot
        is used in, for the bot may be used in another one, and is closed with the bot.
      policy: How patient requests are that may succeed later.
    """

    def __init__(self, given: Provider | None = None, policy: RetryPolicy = STANDARD) -> None:
        self._given = given
        self._given_too = False
        self._policy = policy
        self._open: dict[tuple[str, str], Provider] = {}
        self._limiters: dict[tuple[str, str], Limiter] = {}
        self._circuits: dict[tuple[str, str], Circuit] = {}

    def provider(self, selection: ModelSelection) -> Provider:
        """The provider to ask for this model: it waits for its turn, asks again, and asks the selection's fallbacks.

        Raises:
          ConfigError: An endpoint cannot be used; the text names the setting.
        """
        if self._given is not None:
            return self._given
        if selection.fallbacks:
            chain = (selection, *selection.fallbacks)
            return Retrying(Fallback([self._candidate(one) for one in chain]), self._policy)
        if selection.kind == "local":  # our own child process: waiting does not make it better
            return self._service(selection)
        return Retrying(self._service(selection), self._policy)

    def connections(self) -> ConnectionCount:
        """How many connections they hold together. From any thread."""
        providers = [*tuple(self._open.values()), self._given]
        return sum(map(connections_of, providers), start=ConnectionCount())

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

    def _service(self, selection: ModelSelection) -> Provider:
        # A vendor may speak one format for some of its models and another one for the rest.
        key = (selection.provider_name, selection.kind)
        provider = self._open.get(key)
        if provider is None:
            service = _make(selection)
            provider = self._open[key] = Primed(
                Limited(service, self._limiter(selection), patience_s=self._policy.total_s)
            )
        return provider

    def _limiter(self, selection: ModelSelection) -> Limiter:
        """The limiter of the selection's key: two configured services may have the same one."""
        endpoint = selection.endpoint
        key = ("key", endpoint.api_key) if endpoint.api_key else ("service", endpoint.name)
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = Limiter(endpoint.limits)
        else:
            limiter.tighten(endpoint.limits)
        return limiter

    def _candidate(self, selection: ModelSelection) -> Candidate:
        return Candidate(
            provider=self._service(selection),
            model=selection.model,
            max_tokens=selection.max_tokens,
            temperature=selection.temperature,
            reasoning_effort=selection.reasoning_effort,
            offers_tools=selection.offers_tools,
            circuit=self._circuits.setdefault(
                (selection.provider_name, selection.model), Circuit()
            ),
            pause_s=self._limiter(selection).pause_s,
        )


def retry_policy(defaults: AgentDefaults) -> RetryPolicy:
    """How patient requests are, as configured.

    Raises:
      InvalidArgument: The bounds contradict each other.
    """
    usual = PATIENT if defaults.provider_retry_mode == "persistent" else STANDARD
    retry = defaults.retry
    first = usual.first_delay_s if retry.first_delay_s is None else retry.first_delay_s
    longest = usual.max_delay_s if retry.max_delay_s is None else retry.max_delay_s
    return RetryPolicy(
        max_attempts=retry.max_attempts or usual.max_attempts,
        max_refusals=retry.max_refusals or usual.max_refusals,
        total_s=usual.total_s if retry.total_s is None else retry.total_s,
        first_delay_s=min(first, longest),
        max_delay_s=longest,
    )


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
