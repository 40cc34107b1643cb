"""A provider around a provider: sends a request again if it may succeed later."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import trio

from nanobot.errors import ProviderError, RateLimited

from ._provider import DeltaStream, ModelRequest, Provider
from ._retry import STANDARD, RetryPolicy, retry_delay_s

__all__ = ["Retrying"]

_log = logging.getLogger("nanobot.providers")


class Retrying:
    """Repeats what fails inside `open`, and nothing after it, so that no two answers are ever mixed.

    Put it around `Primed`, whose `open` returns with the first words of the answer: then everything that goes wrong before
    them is repeated. Holds nothing between requests; any number of tasks may use it.

    Args:
      provider: Whom to ask.
      policy: How often, and for how long.
      random_number: For the jitter; 0 <= number < 1.
    """

    def __init__(
        self,
        provider: Provider,
        policy: RetryPolicy = STANDARD,
        *,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        self._provider = provider
        self._policy = policy
        self._random_number = random_number

    @property
    def name(self) -> str:
        """The name of the provider inside."""
        return self._provider.name

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Send the request, again if need be; as `Provider.open`.

        Raises:
          ProviderError: The last one, if the request is not repeated any more.

        Cancellation ends a wait at once.
        """
        started = trio.current_time()
        failures = refusals = 0
        while True:
            try:
                return await self._provider.open(request)
            except ProviderError as error:
                if isinstance(error, RateLimited):
                    refusals += 1
                else:
                    failures += 1
                delay_s = retry_delay_s(
                    self._policy,
                    error,
                    failures=failures,
                    refusals=refusals,
                    elapsed_s=trio.current_time() - started,
                    jitter=self._random_number(),
                )
                if delay_s is None:
                    raise
                _log.info("asking %s again in %.1f s: %s", error.provider, delay_s, error)
            await trio.sleep(delay_s)  # behind the handler: what comes next is no consequence of it

    async def aclose(self) -> None:
        """Close the provider inside."""
        await self._provider.aclose()
