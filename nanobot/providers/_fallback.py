"""A provider made of several: asks the next model when one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio
from msgspec import Struct
from msgspec.structs import replace

from nanobot.errors import (
    AuthenticationFailed,
    OutOfCredit,
    ProviderError,
    RateLimited,
    ServiceUnavailable,
)

from ._circuit import Circuit
from ._provider import DeltaStream, ModelRequest, Provider

__all__ = ["Candidate", "Fallback", "falls_over"]

_log = logging.getLogger("nanobot.providers")


def _never() -> float:
    return 0.0


class Candidate(Struct, frozen=True, kw_only=True):
    """One model that may be asked.

    Attributes:
      provider: Whom to ask for it. Put `Primed` around a provider whose `open` returns before the answer has begun, or what
        fails after that is not asked for elsewhere.
      model: The model's name there.
      max_tokens: Most tokens of one answer; a request may ask for less.
      temperature: None leaves it to the service.
      reasoning_effort: None leaves it to the service.
      offers_tools: Whether it can be offered tools.
      circuit: Shared by all who ask for this model.
      pause_s: For how many seconds its service is left alone, because it refused a request. Others are asked meanwhile.
    """

    provider: Provider
    model: str
    max_tokens: int | None
    temperature: float | None
    reasoning_effort: str | None
    circuit: Circuit
    offers_tools: bool = True
    pause_s: Callable[[], float] = _never

    def adapted(self, request: ModelRequest) -> ModelRequest:
        """The request as this model gets it."""
        most = request.max_tokens
        if most is None or (self.max_tokens is not None and self.max_tokens < most):
            most = self.max_tokens
        return replace(
            request,
            model=self.model,
            max_tokens=most,
            temperature=self.temperature,
            reasoning_effort=self.reasoning_effort,
            tools=request.tools if self.offers_tools else (),
        )


class Fallback:
    """Asks models in order until one answers. Which one that was, the request's watch is told.

    Only what fails inside `open` is asked for elsewhere, so no answer is made of two models' words. A model that failed
    three times in a row is passed over for a minute, and one whose service asked us to slow down while it does.

    What is wrong with the request itself (400, 404, 413, 422, a content filter) would be wrong elsewhere, and is raised
    at once. A key that is not accepted, an account without credit and everything that may pass lead to the next model.

    Args:
      candidates: In order of preference; at least one.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = tuple(candidates)
        if not self._candidates:
            raise ValueError("Fallback needs at least one candidate")

    @property
    def name(self) -> str:
        """The name of the first provider."""
        return self._candidates[0].provider.name

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Ask one model after the other; as `Provider.open`.

        Raises:
          ProviderError: Of the first model that was asked, if none answers; it is retryable if any of them may answer
            later, and its `retry_after_s` is the shortest wait that helps. Of the model that was asked last, if the fault is
            the request's.
        """
        errors: list[ProviderError] = []
        for candidate in self._in_order():
            try:
                return await _ask(candidate, request)
            except ProviderError as error:
                if not falls_over(error):
                    raise
                errors.append(error)
                _log.warning("%s does not answer: %s", candidate.model, error)
        raise self._nobody(errors)

    async def aclose(self) -> None:
        """Close every provider inside."""
        async with trio.open_nursery() as nursery:
            for provider in {id(one.provider): one.provider for one in self._candidates}.values():
                nursery.start_soon(provider.aclose)

    def _in_order(self) -> list[Candidate]:
        """Whom to ask now. If every service asked us to slow down, the one that will be back first."""
        now = trio.current_time()
        open_now = [one for one in self._candidates if one.circuit.opens_at(now) <= now]
        at_once = [one for one in open_now if one.pause_s() <= 0]
        return at_once or sorted(open_now, key=lambda one: one.pause_s())[:1]

    def _nobody(self, errors: Sequence[ProviderError]) -> ProviderError:
        now = trio.current_time()
        if not errors:
            opens_at = min(one.circuit.opens_at(now) for one in self._candidates)
            return ServiceUnavailable(
                "every model failed several times in a row and is left alone for a while",
                provider=self.name,
                retry_after_s=max(0.0, opens_at - now),
            )
        first = errors[0]
        later = [error for error in errors if error.retryable]
        if later:
            waits = [error.retry_after_s for error in later]
            first.retryable = True
            first.retry_after_s = (
                None if None in waits else min(wait for wait in waits if wait is not None)
            )
        return first


def falls_over(error: ProviderError) -> bool:
    """Whether another model may do better."""
    return error.retryable or isinstance(error, AuthenticationFailed | OutOfCredit)


async def _ask(candidate: Candidate, request: ModelRequest) -> DeltaStream:
    circuit = candidate.circuit
    if not circuit.enter(trio.current_time()):  # somebody else is just trying it
        raise ServiceUnavailable(
            f"{candidate.model} failed several times in a row and is left alone for a while",
            provider=candidate.provider.name,
            retry_after_s=max(0.0, circuit.opens_at(trio.current_time()) - trio.current_time()),
        )
    try:
        stream = await candidate.provider.open(candidate.adapted(request))
    except ProviderError as error:
        if isinstance(error, RateLimited):
            circuit.left()  # it works, and its pause says for how long it is to be passed over
        elif falls_over(error):
            circuit.failed(trio.current_time())
        else:
            circuit.answered()  # it works; it is this request that it does not like
        raise
    except BaseException:
        circuit.left()
        raise
    circuit.answered()
    return stream
