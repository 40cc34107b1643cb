"""Providers that write down what a model answers, and that play it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import trio

from nanobot._regular_file import is_new_file
from nanobot.errors import ProviderError, UsageError
from nanobot.messages import Delta
from nanobot.providers import DeltaStream, ModelRequest, Provider

from ._cassette import (
    Cassette,
    Exchange,
    Ignored,
    delta_from_builtins,
    error_of,
    failure_of,
    request_of,
    scrubbed,
)
from ._scrub import Scrubber

__all__ = ["RecordMode", "RecordingProvider", "ReplayProvider", "cassette"]

RecordMode: TypeAlias = Literal["once", "always", "never"]

Normalize: TypeAlias = Callable[[str], str]


def _as_it_is(text: str) -> str:
    return text


def cassette(
    path: str | os.PathLike[str],
    provider: Callable[[], Provider],
    *,
    record: RecordMode | None = None,
    secrets: Iterable[str] = (),
    ignore: Iterable[Ignored] = (),
    normalize: Normalize = _as_it_is,
) -> RecordingProvider | ReplayProvider:
    """Replay a cassette, or record it.

    Args:
      path: The file; its folder is made if it is not there.
      provider: Makes the provider to record, such as `configured_provider`. Called only to record.
      record: "once" records if there is no file yet, "always" records anew, "never" does not. Default: what the
        environment variable NANOBOT_CASSETTES says, and "once" if it says nothing.
      secrets, ignore, normalize: As for `RecordingProvider`.

    Raises:
      FileNotFoundError: There is no file, and none is to be recorded.
    """
    mode = record or os.environ.get("NANOBOT_CASSETTES", "once")
    if mode not in ("once", "always", "never"):
        raise UsageError(f"NANOBOT_CASSETTES is {mode!r}; it can be once, always or never")
    place = Path(path)
    if mode == "always" or (mode == "once" and not place.exists()):
        return RecordingProvider(
            provider(), place, secrets=secrets, ignore=ignore, normalize=normalize
        )
    return ReplayProvider(place, secrets=secrets, ignore=ignore, normalize=normalize)


class RecordingProvider:
    """A provider that writes each exchange with the one inside to a cassette, as it ends. A `Provider`.

    The file is made anew, for its owner only. Secrets are replaced before anything is written: those named in
    `secrets`, values of environment variables that are named like keys, and what looks like a key. What the model is
    asked and what your program gets are not changed.

    Args:
      provider: The provider to record; closed with this one.
      path: The cassette.
      secrets: Texts that must not be written.
      ignore: What of a request does not matter for finding its answer: "system" (the system prompt), "tools" (what tools
        are offered), "settings" (temperature, limits). What was recorded with it is replayed with it.
      normalize: Changes each text of a request before it is hashed; for what is different in each run, beyond the time,
        the workspace's folder and ids of calls, which are taken care of.

    Raises:
      UsageError: The file cannot be made.
    """

    def __init__(
        self,
        provider: Provider,
        path: str | os.PathLike[str],
        *,
        secrets: Iterable[str] = (),
        ignore: Iterable[Ignored] = (),
        normalize: Normalize = _as_it_is,
    ) -> None:
        self._provider = provider
        self._path = Path(path)
        self._scrubber = Scrubber(secrets)
        self._ignored = frozenset(ignore)
        self._normalize = normalize
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            is_new_file(self._path)  # or a file: nothing else is deleted
            self._path.unlink(missing_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise UsageError(
                f"{self._path} cannot be written: {error.strerror or error}"
            ) from error

    @property
    def name(self) -> str:
        """The name of the provider inside."""
        return self._provider.name

    async def open(self, request: ModelRequest) -> DeltaStream:
        """As the provider inside."""
        key, shown = request_of(
            request, self._scrubber, ignored=self._ignored, normalize=self._normalize
        )
        try:
            stream = await self._provider.open(request)
        except ProviderError as error:
            self._write(Exchange(key, shown, failure=failure_of(error, self._scrubber)))
            raise
        return _RecordingStream(
            stream,
            lambda batches, error, complete: self._write(
                Exchange(
                    key,
                    shown,
                    scrubbed(batches, self._scrubber),
                    None if error is None else failure_of(error, self._scrubber),
                    complete,
                )
            ),
        )

    async def aclose(self) -> None:
        """Close the provider inside."""
        await self._provider.aclose()

    def _write(self, exchange: Exchange) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(exchange) + b"\n")


class _RecordingStream:
    def __init__(
        self,
        stream: DeltaStream,
        write: Callable[[Sequence[Sequence[Delta]], ProviderError | None, bool], object],
    ) -> None:
        self._stream = stream
        self._deltas = aiter(stream)
        self._write = write
        self._batches: list[Sequence[Delta]] = []
        self._written = False

    def __aiter__(self) -> _RecordingStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        try:
            batch = await anext(self._deltas)
        except StopAsyncIteration:
            self._end(None, complete=True)
            raise
        except ProviderError as error:
            self._end(error, complete=True)
            raise
        self._batches.append(tuple(batch))
        return batch

    async def aclose(self) -> None:
        self._end(None, complete=False)
        await self._stream.aclose()

    def _end(self, error: ProviderError | None, *, complete: bool) -> None:
        if not self._written:
            self._written = True
            self._write(self._batches, error, complete)


class ReplayProvider:
    """A provider that answers from a cassette, at once and without a network. A `Provider`.

    Each recorded exchange is played once; where the same was asked several times, in the order of the recording.
    Different requests may come in any order. One whose answer was broken off by the program plays what had come, and is
    silent from then on.

    Args:
      path: The cassette.
      secrets, ignore, normalize: As they were for `RecordingProvider`.

    Raises:
      FileNotFoundError: There is no cassette.
      UsageError: It cannot be read, or is none.

    Attributes:
      left: Recorded exchanges that were not asked for yet.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        secrets: Iterable[str] = (),
        ignore: Iterable[Ignored] = (),
        normalize: Normalize = _as_it_is,
    ) -> None:
        self._cassette = Cassette.load(Path(path))
        self._scrubber = Scrubber(secrets)
        self._ignored = frozenset(ignore)
        self._normalize = normalize
        self.name = "replay"

    @property
    def left(self) -> int:
        """Recorded exchanges that were not asked for yet."""
        return self._cassette.left

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Answer as it was recorded.

        Raises:
          CassetteMismatch: This was not recorded; an `AssertionError` that shows the difference to what was.
          ProviderError: It was recorded that the service failed.
        """
        await trio.lowlevel.checkpoint()
        key, shown = request_of(
            request, self._scrubber, ignored=self._ignored, normalize=self._normalize
        )
        exchange = self._cassette.take(key, shown)
        if exchange.failure is not None and not exchange.batches:
            raise error_of(exchange.failure, self.name)
        return _ReplayedStream(exchange, self.name)

    async def aclose(self) -> None:
        """Nothing is open."""
        await trio.lowlevel.checkpoint()


class _ReplayedStream:
    def __init__(self, exchange: Exchange, provider: str) -> None:
        self._exchange = exchange
        self._provider = provider
        self._next = 0
        self._closed = False

    def __aiter__(self) -> _ReplayedStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        await trio.lowlevel.checkpoint()
        exchange = self._exchange
        if self._closed:
            raise StopAsyncIteration
        if self._next < len(exchange.batches):
            self._next += 1
            return [delta_from_builtins(value) for value in exchange.batches[self._next - 1]]
        if exchange.failure is not None:
            raise error_of(exchange.failure, self._provider)
        if not exchange.complete:
            await trio.sleep_forever()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()
