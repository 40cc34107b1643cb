"""Work on one session that is no turn, done in the place that a turn would have: posted to the session's actor."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors import Call, HomeGone, SyncHost, in_async_loop
from nanobot.agent import RunResult
from nanobot.errors import BotClosed, NanobotError, UsageError
from nanobot.runtime import Run, Runtime, TurnMaker, closed
from nanobot.sessions import SessionGone

from ._blueprint import Blueprint
from ._engine import Engine

__all__ = ["SessionWork"]

T = TypeVar("T")

_log = logging.getLogger("nanobot.sdk")


class SessionWork:
    """Has things done to sessions by their actors, so that they never race a turn."""

    def __init__(self, engine: Engine, blueprint: Blueprint) -> None:
        self._engine = engine
        self._blueprint = blueprint

    async def do(self, key: str, work: Callable[[TurnMaker], Awaitable[T]]) -> T:
        """Wait for the session's turns before, do the work, return what it returns.

        Raises:
          BotClosed: The bot was closed before the work was done.
          SessionGone: The session was cleared or deleted before the work was done.
          NestedRunRefused: It was asked for inside a run on the same session. Otherwise what the work raises.

        Cancellation: the work is cancelled with its caller, who gets out when nothing of it is alive.
        """
        runtime = self._engine.open()
        run, results = self._posting(runtime, key, work)
        await self._engine.run(runtime, run)
        return self._result(key, results)

    async def look(self, look: Callable[[TurnMaker], Awaitable[T]]) -> T:
        """Await something where the bot lives that belongs to no session, and takes nobody's place.

        Raises:
          BotClosed: The bot was closed. Otherwise what `look` raises.

        Cancellation: cancelled with its caller.
        """
        runtime = self._engine.open()
        return await self._engine.look_up(
            runtime, lambda: look(self._blueprint.turn_maker(runtime))
        )

    def do_sync(self, key: str, work: Callable[[TurnMaker], Awaitable[T]], *, name: str) -> T:
        """Blocking `do`; `name` is what the caller called, whose async twin has no "_sync".

        Raises:
          UsageError: There is an event loop here, which this would block.
        """
        if in_async_loop():
            instead = name.removesuffix("_sync")
            raise UsageError(
                f"{name}() would block the event loop here; use `await {instead}(...)`"
            )
        runtime = self._engine.open()
        run, results = self._posting(runtime, key, work)
        host = SyncHost()
        try:
            self._engine.run_sync(runtime, run, host)
        finally:
            host.close()
        return self._result(key, results)

    async def on_each_idle(
        self, idle_s: float, work: Callable[[TurnMaker, str], Awaitable[object]]
    ) -> None:
        """Do the work to every session that a run has used and that nobody has used for so long, until the bot is closed.

        One after the other, each in the place of a turn. What the work raises is logged, and the others go on.

        Cancellation: ends it, and work that is going on; returns when nothing of it is alive.
        """
        runtime = self._engine.open()
        idle = self._blueprint.turn_maker(runtime).idle

        async def body() -> None:
            idle.watch()
            try:
                while True:
                    key = await idle.next_idle(idle_s)
                    try:
                        await self.do(key, lambda maker, key=key: work(maker, key))  # type: ignore[misc]  # bound now
                    except BotClosed:
                        return
                    except NanobotError as error:
                        _log.warning("session %.200r was left as it is: %s", key, error)
                    except Exception:  # noqa: BLE001 - a provider of somebody else; a server must not end by it
                        _log.exception("session %.200r was left as it is", key)
            finally:
                idle.unwatch()

        await self._engine.accompany(runtime, Call(body))

    def is_closed(self) -> bool:
        """Whether the bot was closed."""
        return self._engine.closed

    def cancel_if_here(self) -> Callable[[str], None]:
        """`cancel` for others to call, who shall not keep the bot alive by that."""
        reference = weakref.ref(self)

        def cancel(key: str) -> None:
            work = reference()
            if work is not None:
                work.cancel(key)

        return cancel

    def cancel(self, key: str) -> None:
        """Cancel what runs on the session, and what waits for it. For after a write that it must not survive."""
        runtime = self._engine.runtime
        if runtime is not None:
            try:
                runtime.home.do(runtime.cancel_session, key)
            except HomeGone:
                pass  # and with it whatever ran there

    def _posting(
        self, runtime: Runtime, key: str, work: Callable[[TurnMaker], Awaitable[T]]
    ) -> tuple[Run, list[T]]:
        maker = self._blueprint.turn_maker(runtime)
        results: list[T] = []

        async def body(_run: Run) -> RunResult:
            results.append(await work(maker))
            return RunResult(content="")

        return Run(key, body), results

    def _result(self, key: str, results: list[T]) -> T:
        if results:
            return results[0]
        if self._engine.closed:
            raise closed()
        raise SessionGone(key)
