"""A scripted service for the time of a block: in the caller's Trio run, or in a thread of its own."""

from __future__ import annotations

import contextlib
import contextvars
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

import trio

from nanobot.errors import UsageError

from ._recorded_request import RecordedRequest
from ._script import Script
from ._service import ServerItem, Service, listening_socket
from ._statistics import Statistics

__all__ = ["ScriptedServer", "ScriptedServerContext", "ScriptedServerThread", "scripted_server"]


def scripted_server(
    answers: Script[ServerItem, RecordedRequest],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    models: Sequence[str] = ("scripted",),
    record: bool = True,
    refuse_after: int | None = None,
) -> ScriptedServerContext:
    """Run an OpenAI-compatible model service that answers from a script, over real HTTP, for the time of a block.

    In a Trio run, it lives in the run:

    ```python
    import httpx
    import trio
    from nanobot.testing import Answer, HttpResponse, scripted_server


    async def main() -> None:
        script = [HttpResponse(429, headers={"retry-after": "1"}), Answer("Hello", before_first_delta_s=0.1)]
        async with scripted_server(script) as server, httpx.AsyncClient(base_url=server.base_url) as client:
            asked = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
            refused = await client.post("/chat/completions", json=asked)
            answered = await client.post("/chat/completions", json=asked)
            print(refused.status_code, answered.json()["choices"][0]["message"]["content"])
            assert server.requests[1].json == asked


    trio.run(main)
    ```

    For asyncio and for code without a loop, it runs in a thread of its own:

    ```python
    import httpx
    from nanobot.testing import scripted_server

    with scripted_server(["Hello"]) as server:
        asked = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
        print(httpx.post(f"{server.base_url}/chat/completions", json=asked).json())
        print(server.statistics())
    ```

    For load, it is a process: `python -m nanobot.testing.server --help`.

    It knows `POST /v1/chat/completions` (streamed or not), `GET /v1/models`, `GET /health` and `GET /statistics`. Usage
    is part of a stream only if `stream_options.include_usage` asks for it, as at OpenAI.

    Args:
      answers: What to answer: a list or any iterable, taken in the order in which requests arrive; or a function of the
        `RecordedRequest`, sync or async, called in the server's Trio run; or `by_session`.
      host: Address to listen on.
      port: 0 lets the system choose a free one.
      models: What `GET /v1/models` lists. Requests may name any model.
      record: Keep every request in `requests`. Say False under load, or they pile up.
      refuse_after: After so many connections, refuse all further ones.

    Use it with the real clock: a `MockClock` that jumps does so while bytes are still under way. For tests on a virtual
    clock there is `ScriptedProvider`.

    Leaving the block closes every connection. If the script failed, by running out of answers (`ScriptExhausted`) or
    with an exception of its own, the client got a status 400 that says so, and leaving the block raises it.
    """
    service = Service(answers, models=models, record=record, refuse_after=refuse_after)
    return ScriptedServerContext(service, host, port)


class _Face:
    """What is the same from wherever a scripted server is looked at.

    Attributes:
      base_url: Where a client finds it, with the version path: `http://127.0.0.1:40001/v1`.
      host: The address it listens on.
      port: The port it listens on.
    """

    def __init__(self, service: Service, listener: socket.socket) -> None:
        self._service = service
        self.host, self.port = listener.getsockname()[:2]
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.base_url = f"http://{shown}:{self.port}/v1"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.base_url}: {self.statistics()}>"

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The requests for a completion so far, in order of arrival; those in flight included."""
        return tuple(self._service.requests)

    def statistics(self) -> Statistics:
        """The counts of this moment: connections, requests, hang-ups."""
        return self._service.statistics()


class ScriptedServer(_Face):
    """A scripted server that runs in the current Trio run; `async with scripted_server(...)` gives one."""

    async def wait_until(
        self, condition: Callable[[Statistics], bool], *, timeout_s: float = 5.0
    ) -> Statistics:
        """Wait until the counts meet a condition: what a client did is seen here a moment later.

        `await server.wait_until(lambda counts: counts.open_connections == 0)`

        Raises:
          TimeoutError: They did not within `timeout_s` seconds; the message says where they are.
        """
        return await self._service.wait_until(condition, timeout_s=timeout_s)


class ScriptedServerThread(_Face):
    """A scripted server that runs in a thread of its own; `with scripted_server(...)` gives one."""

    def __init__(
        self, service: Service, listener: socket.socket, token: trio.lowlevel.TrioToken
    ) -> None:
        super().__init__(service, listener)
        self._token = token

    def wait_until(
        self, condition: Callable[[Statistics], bool], *, timeout_s: float = 5.0
    ) -> Statistics:
        """Block until the counts meet a condition, which is called in the server's thread.

        From a coroutine: `await asyncio.to_thread(server.wait_until, lambda counts: counts.hang_ups == 1)`.

        Raises:
          TimeoutError: They did not within `timeout_s` seconds; the message says where they are.
        """

        async def wait() -> Statistics:
            return await self._service.wait_until(condition, timeout_s=timeout_s)

        return trio.from_thread.run(wait, trio_token=self._token)


class ScriptedServerContext:
    """What `scripted_server` returns: the block in which the server lives, entered once, with or without `async`."""

    def __init__(self, service: Service, host: str, port: int) -> None:
        self._service = service
        self._address = (host, port)
        self._entered = False
        self._scope = trio.CancelScope()
        self._ended: trio.Event | None = None
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._crash: BaseException | None = None

    async def __aenter__(self) -> ScriptedServer:
        if not trio.lowlevel.in_trio_task():
            raise UsageError(
                "`async with scripted_server(...)` needs a Trio run; elsewhere use `with scripted_server(...)`"
            )
        listener = self._listen()
        self._ended = trio.Event()
        # A system task and not a nursery held open: what the block raises must not be wrapped in an ExceptionGroup.
        trio.lowlevel.spawn_system_task(
            self._run, listener, name="scripted_server", context=contextvars.copy_context()
        )
        return ScriptedServer(self._service, listener)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._ended is not None
        self._scope.cancel()
        with trio.CancelScope(shield=True):  # short: it closes sockets
            await self._ended.wait()
        self._report(error)

    def __enter__(self) -> ScriptedServerThread:
        listener = self._listen()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run_in_thread, listener, ready),
            name="scripted_server",
            daemon=True,
        )
        self._thread.start()
        ready.wait()
        if self._token is None:
            self._thread.join()
            self._report(None)
            raise AssertionError("the server's thread ended without a reason")
        return ScriptedServerThread(self._service, listener, self._token)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        assert self._token is not None
        # A run that has crashed is over already; the crash is reported below.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()
        self._report(error)

    def _listen(self) -> socket.socket:
        if self._entered:
            raise UsageError(
                "a scripted server lives for one block; call scripted_server(...) again for another one"
            )
        self._entered = True
        return listening_socket(*self._address)

    async def _run(self, listener: socket.socket) -> None:
        assert self._ended is not None
        try:
            with self._scope:
                await self._service.serve(listener)
        except Exception as error:  # noqa: BLE001 - raised by the block; in a system task it would crash the run
            self._crash = error
        finally:
            self._ended.set()

    def _run_in_thread(self, listener: socket.socket, ready: threading.Event) -> None:
        async def main() -> None:
            self._token = trio.lowlevel.current_trio_token()
            ready.set()
            with self._scope:
                await self._service.serve(listener)

        try:
            trio.run(main)
        except BaseException as error:  # noqa: BLE001, ASYNC103 - the run is over; the block raises it
            self._crash = error
        finally:
            ready.set()

    def _report(self, error: BaseException | None) -> None:
        """Raise what went wrong in here, unless the block has an error of its own: then that says so in a note."""
        failures = [*([] if self._crash is None else [self._crash]), *self._service.script_errors]
        if failures and error is None:
            raise failures[0]
        if failures and error is not None:
            error.add_note(f"The scripted server failed, too: {failures[0]!r}")
