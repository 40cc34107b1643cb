"""A provider around a provider: whose `open` returns with the first words of the answer."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from nanobot.errors import MalformedStream, ProviderError
from nanobot.messages import Delta, Usage, UsageDelta

from ._connection_count import ConnectionCount, connections_of
from ._provider import DeltaStream, ModelRequest, Provider

__all__ = ["Primed"]


class Primed:
    """Waits inside `open` until the answer has begun, so that whatever fails before is `open`'s failure.

    A service may accept a request and then fail it: with an error for a first event, by hanging up, by staying silent. Up to
    its first words an answer can be asked for anew, here or elsewhere, and nobody notices; whoever does that (`Retrying`,
    `Fallback`) therefore looks at `open` only. Counts of tokens alone are not words.

    Tells the request's watch of each attempt.

    Attributes:
      name: The name of the provider inside.
    """

    def __init__(self, provider: Provider) -> None:
        self.name = provider.name
        self._provider = provider

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Send the request, and return when the answer has begun.

        Raises:
          ProviderError: The service refused, failed, fell silent, or could not be reached.

        Cancellation closes the stream before it propagates.
        """
        watch = request.watch
        if watch is not None:
            watch.asking(self.name, request)
        usage: Usage | None = None
        try:
            stream = await self._provider.open(request)
            if watch is not None:
                watch.accepted()
            beginning: list[Delta] = []
            try:
                while True:
                    try:
                        batch = await stream.__anext__()
                    except StopAsyncIteration:
                        raise MalformedStream(
                            "the answer stopped before it began", provider=self.name
                        ) from None
                    beginning += batch
                    if any(type(delta) is not UsageDelta for delta in batch):
                        return _PrimedStream(stream, beginning)
                    for delta in batch:
                        assert type(delta) is UsageDelta
                        usage = delta.usage
            except BaseException:
                await stream.aclose()  # its contract: complete also when cancelled
                raise
        except ProviderError as error:
            if watch is not None:
                watch.failed(error, usage)
            raise

    def connections(self) -> ConnectionCount:
        """How many connections the provider inside holds. From any thread."""
        return connections_of(self._provider)

    async def aclose(self) -> None:
        """Close the provider inside."""
        await self._provider.aclose()


class _PrimedStream:
    """An answer whose beginning is there already."""

    def __init__(self, stream: DeltaStream, beginning: Sequence[Delta]) -> None:
        self._stream = stream
        self._beginning: Sequence[Delta] | None = beginning

    def __aiter__(self) -> _PrimedStream:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Sequence[Delta]]:
        return self._stream.__anext__() if self._beginning is None else self._begin()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _begin(self) -> Sequence[Delta]:
        beginning, self._beginning = self._beginning, None
        assert beginning is not None
        return beginning
