"""A model in this process: follows a script, does no I/O and remembers what it was asked."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import trio
from msgspec import Struct

from nanobot.errors import ConnectionFailed, MalformedStream, UsageError
from nanobot.messages import Delta, Finished, TextPart, UsageDelta, UserMessage
from nanobot.providers import ModelRequest

from ._answer import Answer, answer_from_text
from ._deltas import deltas_of, finish_reason_of
from ._fault import Cut, HugeLine, MalformedEvent, Raise, SlowDrip, Stall
from ._script import Script, function_from_script

__all__ = ["ProviderItem", "ScriptedProvider", "ScriptedStream"]

ProviderItem: TypeAlias = str | Answer | Exception
"""One entry of a provider's script; an exception is raised by `open`."""

_CACHED_ANSWERS = 256
"""How many answers are kept ready to play: more than any script repeats, few enough to forget about."""


class _Pause(Struct, frozen=True):
    seconds: float


class _Silence(Struct, frozen=True):
    pass


_Step: TypeAlias = tuple[Delta, ...] | _Pause | _Silence | Exception


class ScriptedProvider:
    """A `nanobot.providers.Provider` that answers from a script.

    ```python
    import trio
    from nanobot.errors import RateLimited
    from nanobot.messages import UserMessage
    from nanobot.providers import ModelRequest
    from nanobot.testing import Answer, ScriptedProvider


    async def main() -> None:
        provider = ScriptedProvider(
            [
                RateLimited("slow down", provider="scripted", retry_after_s=30.0),
                Answer(tool_calls=[("list_dir", {"path": "."})]),
                "Two files.",
            ]
        )
        request = ModelRequest("any-model", [UserMessage("What is here?")])
        try:
            await provider.open(request)
        except RateLimited as error:
            print("refused for", error.retry_after_s, "s")
        for _ in range(2):
            stream = await provider.open(request)
            async for batch in stream:
                print(batch)
        assert len(provider.requests) == 3
        assert provider.streams_open == 0


    trio.run(main)
    ```

    Args:
      answers: A list or any iterable, taken in order (`itertools.repeat("ok")` never ends); or a function of the
        `ModelRequest`, sync or async; or `by_session`.
      name: The provider's name, for errors and results.
      record: Keep every request in `requests`. Say False under load, or they pile up.

    Pauses use `trio.sleep`, so a `MockClock` makes them free. An answer with pauses comes one increment at a time, one
    without comes in a single batch, as from a fast network.

    Faults become the errors that a provider raises when its network does that: `Cut` is `ConnectionFailed`,
    `MalformedEvent` and `HugeLine` are `MalformedStream`, `Stall` stays silent until cancelled, `Raise` raises its own.

    Attributes:
      requests: What was asked, in order; `messages` as they were at that moment.
      request_count: How often `open` was called, recorded or not.
      streams_open: Streams that have neither ended, failed nor been closed. After a test: 0.
      peak_streams_open: The most there were at once.
      closed: Whether `aclose` was called.

    `open` raises `ScriptExhausted`, an `AssertionError`, if the script has no more answers.
    """

    def __init__(
        self,
        answers: Script[ProviderItem, ModelRequest],
        name: str = "scripted",
        *,
        record: bool = True,
    ) -> None:
        self.name = name
        self.requests: list[ModelRequest] = []
        self.request_count = 0
        self.streams_open = 0
        self.peak_streams_open = 0
        self.closed = False
        self._record = record
        self._next_item = function_from_script(
            answers,
            owner=f"ScriptedProvider {name!r}",
            check=_answer_from_item,
            user_texts=_user_texts,
        )
        self._ready: dict[int, tuple[Answer, tuple[_Step, ...]]] = {}

    def __repr__(self) -> str:
        return f"<ScriptedProvider {self.name!r}: {self.request_count} requests, {self.streams_open} streams open>"

    async def open(self, request: ModelRequest) -> ScriptedStream:
        """Take the next answer of the script."""
        await trio.lowlevel.checkpoint()
        if self.closed:
            raise UsageError(
                f"ScriptedProvider {self.name!r} was closed; a request came after aclose()"
            )
        # The engine may go on changing the list it sent, and a test wants to see what was sent.
        request = msgspec.structs.replace(request, messages=tuple(request.messages))
        self.request_count += 1
        number = f"{self.request_count:08x}"
        if self._record:
            self.requests.append(request)
        item = self._next_item(request)
        if inspect.isawaitable(item):
            item = await item
        answer = _answer_from_item(item)
        if isinstance(answer, Exception):
            raise answer
        if answer.before_head_s:
            await trio.sleep(answer.before_head_s)
        fault = answer.fault
        if isinstance(fault, Stall) and fault.after_deltas is None:
            await trio.sleep_forever()
        if isinstance(fault, Cut) and fault.after_deltas is None:
            raise self._cut()
        self.streams_open += 1
        self.peak_streams_open = max(self.peak_streams_open, self.streams_open)
        return ScriptedStream(self, self._steps(answer, number))

    async def aclose(self) -> None:
        """Refuse further requests."""
        self.closed = True
        await trio.lowlevel.checkpoint()

    def _steps(self, answer: Answer, number: str) -> tuple[_Step, ...]:
        if answer.tool_calls or answer.fault is not None:  # ids differ per request; faults are rare
            return self._steps_anew(answer, number)
        ready = self._ready.get(id(answer))
        if ready is None:
            if len(self._ready) >= _CACHED_ANSWERS:
                self._ready.clear()
            ready = self._ready[id(answer)] = (answer, self._steps_anew(answer, number))
        return ready[1]

    def _steps_anew(self, answer: Answer, number: str) -> tuple[_Step, ...]:
        deltas = deltas_of(answer, number)
        end: list[Delta] = [] if answer.usage is None else [UsageDelta(answer.usage)]
        end.append(Finished(finish_reason_of(answer)))
        match answer.fault:
            case None:
                return _paced(answer, (*deltas, *end))
            case Stall(after_deltas=int(after)):
                return (*_paced(answer, deltas[:after]), _Silence())
            case Cut(after_deltas=int(after)):
                return (*_paced(answer, deltas[:after]), self._cut())
            case MalformedEvent(data=data, after_deltas=after):
                text = data.decode(errors="replace") if isinstance(data, bytes) else data
                return (
                    *_paced(answer, deltas[:after]),
                    self._malformed("an event that is not JSON", text),
                )
            case HugeLine(size=size, after_deltas=after):
                return (
                    *_paced(answer, deltas[:after]),
                    self._malformed(f"a line of {size} bytes", ""),
                )
            case Raise(error=error, after_deltas=after):
                return (*_paced(answer, deltas[:after]), error)
            case _:
                raise AssertionError(f"not refused by _answer_from_item: {answer.fault}")

    def _cut(self) -> ConnectionFailed:
        return ConnectionFailed(
            "the connection was lost before the answer was complete", provider=self.name
        )

    def _malformed(self, what: str, excerpt: str) -> MalformedStream:
        return MalformedStream(
            f"the service sent {what}", provider=self.name, body_excerpt=excerpt[:500]
        )

    def _stream_ended(self) -> None:
        self.streams_open -= 1


class ScriptedStream:
    """One open answer of a `ScriptedProvider`."""

    def __init__(self, provider: ScriptedProvider, steps: Sequence[_Step]) -> None:
        self._provider = provider
        self._steps = steps
        self._position = 0
        self._open = True

    def __aiter__(self) -> ScriptedStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        while self._open and self._position < len(self._steps):
            step = self._steps[self._position]
            # Each await comes before the step is taken, so that a cancelled call has lost nothing.
            match step:
                case tuple():
                    await trio.lowlevel.checkpoint()
                    self._position += 1
                    return step
                case _Pause(seconds=seconds):
                    await trio.sleep(seconds)
                    self._position += 1
                case _Silence():
                    await trio.sleep_forever()
                case error:
                    await trio.lowlevel.checkpoint()
                    self._end()
                    raise error
        await trio.lowlevel.checkpoint()
        self._end()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the stream, wherever it is; idempotent."""
        self._end()
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._provider._stream_ended()


def _answer_from_item(item: ProviderItem) -> Answer | Exception:
    if isinstance(item, str):
        return answer_from_text(item)
    if isinstance(item, Answer):
        if isinstance(item.fault, SlowDrip):
            raise UsageError(
                "SlowDrip needs a wire; in a ScriptedProvider use Answer(between_deltas_s=…, delta_size=1)"
            )
        return item
    if isinstance(item, Exception):
        return item
    raise UsageError(
        f"a ScriptedProvider answers with a str, an Answer or an exception to raise; got {item!r} "
        "(for a response of HTTP, raise what it means, such as RateLimited, or use scripted_server)"
    )


def _paced(answer: Answer, deltas: Sequence[Delta]) -> tuple[_Step, ...]:
    """Put the pauses of an answer between its increments; usage and finish come with the last increment."""
    if not answer.before_first_delta_s and not answer.between_deltas_s:
        return (tuple(deltas),) if deltas else ()
    steps: list[_Step] = [_Pause(answer.before_first_delta_s)]
    for delta in deltas:
        if isinstance(delta, UsageDelta | Finished) and isinstance(steps[-1], tuple):
            steps[-1] = (*steps[-1], delta)
            continue
        if len(steps) > 1:
            steps.append(_Pause(answer.between_deltas_s))
        steps.append((delta,))
    return tuple(steps)


def _user_texts(request: ModelRequest) -> list[str]:
    texts: list[str] = []
    for message in request.messages:
        if isinstance(message, UserMessage):
            if isinstance(message.content, str):
                texts.append(message.content)
            else:
                texts += [part.text for part in message.content if isinstance(part, TextPart)]
    return texts
