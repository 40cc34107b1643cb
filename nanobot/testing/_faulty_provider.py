"""A provider around another one, which fails as networks and services do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import trio
from msgspec.structs import replace

from nanobot.errors import (
    ConnectionFailed,
    MalformedStream,
    RateLimited,
    ServiceUnavailable,
    UsageError,
)
from nanobot.messages import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from nanobot.providers import DeltaStream, ModelRequest, Provider

from ._fault import Cut, Fault, HugeLine, MalformedEvent, Raise, SlowDrip, Stall

__all__ = ["Faults", "FaultyProvider", "random_faults"]

Mishap: TypeAlias = Fault | Exception | None
"""What befalls one request: a fault, an error that `open` raises, or nothing."""

Faults: TypeAlias = Iterable[Mishap] | Callable[[ModelRequest], Mishap]


def random_faults(seed: int, rate: float = 0.5) -> Iterator[Mishap]:
    """Faults without end: every kind, for a share of `rate` of the requests; the same for the same seed.

    None of them is silent for ever, so that a program without timeouts ends too.
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"random_faults(rate={rate}) must be between 0 and 1")
    chance = random.Random(seed)
    kinds: tuple[Callable[[], Mishap], ...] = (
        lambda: RateLimited("slow down", provider="faulty", status=429, retry_after_s=0.0),
        lambda: ServiceUnavailable("overloaded", provider="faulty", status=503),
        lambda: ConnectionFailed("connection refused", provider="faulty"),
        lambda: Cut(chance.randrange(4), at="mid_token"),
        lambda: MalformedEvent(after_deltas=chance.randrange(4)),
        lambda: SlowDrip(write_size=3, every_s=0.001),
    )
    while True:
        yield chance.choice(kinds)() if chance.random() < rate else None


class FaultyProvider:
    """A provider that hands requests to another one, and spoils what comes of them. A `Provider`.

    ```python
    import trio
    from nanobot.errors import ConnectionFailed
    from nanobot.messages import UserMessage
    from nanobot.providers import ModelRequest
    from nanobot.testing import Cut, FaultyProvider, ScriptedProvider


    async def main() -> None:
        inner = ScriptedProvider(["Hello there", "Hello there"])
        provider = FaultyProvider(inner, [Cut(after_deltas=1, at="mid_token"), None])
        request = ModelRequest("any-model", [UserMessage("Hi")])
        for _ in range(2):
            stream = await provider.open(request)
            try:
                async for batch in stream:
                    print(batch)
            except ConnectionFailed as error:
                print("cut:", error)
            await stream.aclose()


    trio.run(main)
    ```

    - `Stall(after_deltas)` is silent from there on; `Stall()` does not even accept the request.
    - `Cut(after_deltas, at="mid_token")` raises `ConnectionFailed`, with half of the next piece of text before it;
      elsewhere (`at`) the piece is lost as a whole.
    - `MalformedEvent` and `HugeLine` raise `MalformedStream`.
    - `SlowDrip(write_size, every_s)` lets `write_size` characters through at a time.
    - `Raise(error, after_deltas)` raises in mid-stream; an exception instead of a fault is raised by `open`, as in
      `RateLimited("slow down", provider="p", retry_after_s=1.0)`. No request is made then.
    - None lets everything through.

    Pauses use `trio.sleep`, so a virtual clock makes them free. If an answer has fewer deltas than a fault counts, it
    strikes after the last one.

    Args:
      provider: The provider inside; closed with this one.
      faults: One for each request, in order; past their end nothing happens any more. Or a function of the request.

    Attributes:
      struck: How many requests something befell.
    """

    def __init__(self, provider: Provider, faults: Faults) -> None:
        self._provider = provider
        self._next = faults if callable(faults) else _in_order(iter(faults))
        self.struck = 0

    @property
    def name(self) -> str:
        """The name of the provider inside."""
        return self._provider.name

    async def open(self, request: ModelRequest) -> DeltaStream:
        """As the provider inside, or as the fault has it."""
        mishap = self._next(request)
        if mishap is None:
            return await self._provider.open(request)
        self.struck += 1
        if isinstance(mishap, Exception):
            await trio.lowlevel.checkpoint()
            raise mishap
        if isinstance(mishap, Stall) and mishap.after_deltas is None:
            await trio.sleep_forever()
        if isinstance(mishap, Cut) and mishap.after_deltas is None:
            await trio.lowlevel.checkpoint()
            raise _cut(self.name)
        return _FaultyStream(await self._provider.open(request), mishap, self.name)

    async def aclose(self) -> None:
        """Close the provider inside."""
        await self._provider.aclose()


class _FaultyStream:
    def __init__(self, stream: DeltaStream, fault: Fault, provider: str) -> None:
        self._stream = stream
        self._deltas = aiter(stream)
        self._fault = fault
        self._provider = provider
        self._waiting: list[Delta] = []
        self._passed = 0
        self._closed = False

    def __aiter__(self) -> _FaultyStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if self._closed:
            raise StopAsyncIteration
        if not self._waiting:
            batch = await self._batch()
            if isinstance(self._fault, SlowDrip):
                self._waiting = [
                    part for delta in batch for part in _parts(delta, self._fault.write_size)
                ]
            else:
                self._waiting = list(batch)
        if isinstance(self._fault, SlowDrip):
            await trio.sleep(self._fault.every_s)
            return [self._waiting.pop(0)]
        if self._passed == self._strikes_after:
            return await self._strike(self._waiting[0])
        await trio.lowlevel.checkpoint()
        delta = self._waiting.pop(0)
        if isinstance(delta, TextDelta | ReasoningDelta | ToolCallDelta):
            self._passed += 1
        return [delta]

    async def aclose(self) -> None:
        self._closed = True
        await self._stream.aclose()

    @property
    def _strikes_after(self) -> int:
        after = getattr(self._fault, "after_deltas", 0)
        assert isinstance(after, int)
        return after

    async def _batch(self) -> Sequence[Delta]:
        try:
            return await anext(self._deltas)
        except StopAsyncIteration:
            if isinstance(self._fault, SlowDrip):
                raise
        return await self._strike(None)  # the answer was shorter than the fault counts

    async def _strike(self, delta: Delta | None) -> Sequence[Delta]:
        fault = self._fault
        match fault:
            case Stall():
                await trio.sleep_forever()
            case Cut(at="mid_token") if isinstance(delta, TextDelta) and len(delta.text) > 1:
                self._fault = replace(fault, at="between_events")
                await trio.lowlevel.checkpoint()
                return [TextDelta(delta.text[: len(delta.text) // 2])]
            case Cut():
                self._closed = True
                await self._stream.aclose()
                raise _cut(self._provider)
            case Raise(error=error):
                self._closed = True
                await self._stream.aclose()
                raise error
            case MalformedEvent() | HugeLine():
                self._closed = True
                await self._stream.aclose()
                what = (
                    "an event that is not JSON"
                    if isinstance(fault, MalformedEvent)
                    else f"a line of {fault.size} bytes"
                )
                raise MalformedStream(f"the service sent {what}", provider=self._provider)
        raise AssertionError(f"{fault} strikes nowhere")


def _in_order(faults: Iterator[Mishap]) -> Callable[[ModelRequest], Mishap]:
    return lambda _request: next(faults, None)


def _parts(delta: Delta, size: int) -> list[Delta]:
    if not isinstance(delta, TextDelta | ReasoningDelta):
        return [delta]
    kind = type(delta)
    return [kind(delta.text[at : at + size]) for at in range(0, len(delta.text), size)]


def _cut(provider: str) -> ConnectionFailed:
    return ConnectionFailed(
        "the connection was lost before the answer was complete", provider=provider
    )
