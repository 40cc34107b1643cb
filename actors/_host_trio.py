"""Callers in a Trio run: the engine's own, or another one in another thread."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ._cancelled import split_cancelled
from ._errors import HostGone
from ._host import Awaited, Finished, FunctionCancelled, Notify
from ._notify import TrioNotify
from ._run_ended import post_unless_ended, run_ended

__all__ = ["TrioHost"]

ENDED = "the caller's Trio run ended during the call"


class _ThreadsafeTrioNotify:
    """A `TrioNotify` that is notified from another thread."""

    __slots__ = ("_notify", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._notify = TrioNotify()

    def notify(self) -> None:
        # idempotent: notifications between two looks of the run cost one callback; a run that is gone took the waiter along
        post_unless_ended(self._token, self._notify.notify, idempotent=True)

    async def notified(self) -> None:
        await self._notify.notified()


class TrioHost:
    """The caller's Trio run. `local` says that the engine lives in the same one, so that waking is a plain call."""

    __slots__ = ("_token", "local")

    def __init__(self, token: trio.lowlevel.TrioToken, *, local: bool) -> None:
        self._token = token
        self.local = local

    @property
    def gone(self) -> bool:
        return run_ended(self._token)

    def make_notify(self) -> Notify:
        return TrioNotify() if self.local else _ThreadsafeTrioNotify(self._token)

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_until_over(self, work: Awaited, notify: Notify) -> None:
        try:
            while not work.is_over():
                await notify.notified()
        except GeneratorExit:  # the coroutine is being closed: there is no waiting any more
            work.cancel()
            raise
        except BaseException:  # Cancelled, or a KeyboardInterrupt that struck here
            work.cancel()
            with trio.CancelScope(shield=True):
                while not work.is_over():
                    await notify.notified()
            raise

    def start(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> Callable[[], None]:
        scope = trio.CancelScope()

        async def run() -> None:
            value = None
            error: BaseException | None = FunctionCancelled()
            try:
                with scope:
                    value = await function(*args)
                    error = None
            except (trio.Cancelled, GeneratorExit):  # the host's run is ending
                error = HostGone(ENDED)
                raise
            except BaseException as raised:  # noqa: BLE001 - it is raised again in the engine
                cancelled, rest = split_cancelled(raised)
                error = rest or HostGone(ENDED)
                if cancelled is not None:
                    raise cancelled from None
            finally:
                finished(value, error)

        def spawn() -> None:
            try:
                trio.lowlevel.spawn_system_task(run, context=context)
            except RuntimeError:  # the run is past the end of its last task
                finished(None, HostGone(ENDED))

        self._post(spawn)
        return lambda: self._post(scope.cancel)

    def _post(self, function: Callable[[], None]) -> None:
        if not post_unless_ended(self._token, function):
            raise HostGone("the caller's Trio run has ended")
