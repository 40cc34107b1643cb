"""Callers in a Trio run: the engine's own, or another one in another thread."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ._errors import HostGone
from ._host import Finished, Notify
from ._notify import TrioNotify

__all__ = ["TrioHost"]


class _ThreadsafeTrioNotify:
    """A `TrioNotify` that is notified from another thread."""

    __slots__ = ("_notify", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._notify = TrioNotify()

    def notify(self) -> None:
        try:
            self._token.run_sync_soon(self._notify.notify)
        except trio.RunFinishedError:
            pass  # the waiter is gone with its run

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
        try:
            self._token.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            return True
        return False

    def make_notify(self) -> Notify:
        return TrioNotify() if self.local else _ThreadsafeTrioNotify(self._token)

    async def wait_until(
        self, done: Callable[[], bool], notify: Notify, *, on_cancel: Callable[[], object]
    ) -> None:
        try:
            while not done():
                await notify.notified()
        except GeneratorExit:  # the coroutine is being closed: there is no waiting any more
            on_cancel()
            raise
        except BaseException:  # Cancelled, or a KeyboardInterrupt that struck here
            on_cancel()
            with trio.CancelScope(shield=True):
                while not done():
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
            error: BaseException | None = None
            try:
                with scope:
                    value = await function(*args)
                if scope.cancelled_caught:
                    error = HostGone("the caller's side of this call was cancelled")
            except trio.Cancelled as cancelled:  # the host's run is ending
                error = HostGone("the caller's Trio run ended during the call")
                raise cancelled
            except BaseException as raised:  # noqa: BLE001 - it is raised again in the engine
                error = raised
            finally:
                finished(value, error)

        def spawn() -> None:
            trio.lowlevel.spawn_system_task(run, context=context)

        self._post(spawn)
        return lambda: self._post(scope.cancel)

    def _post(self, function: Callable[[], object]) -> None:
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            raise HostGone("the caller's Trio run has ended") from None


def _nothing() -> None:
    """Posted to learn whether the run is there."""
