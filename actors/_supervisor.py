"""Keeping children alive: each is restarted by its policy, and none takes another down."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from ._errors import ChildFailed
from ._restart import GiveUp, Restart, RestartHistory, RestartPolicy

__all__ = ["Supervisor", "open_supervisor", "supervise"]

_log = logging.getLogger("actors.supervisor")


async def supervise(
    child: Callable[[], Awaitable[None]], *, policy: RestartPolicy, name: str
) -> None:
    """Run `child` until it returns; when it raises, start it again as `policy` says.

    Raises:
      ChildFailed: The child failed too often. Its last error is the cause.

    Cancellation ends the child and is never counted as a failure.
    """
    history = RestartHistory()
    while True:
        try:
            await child()
        except Exception as failure:
            history, decision = history.failed(policy, trio.current_time())
            match decision:
                case GiveUp(failures=failures):
                    raise ChildFailed(name, failures) from failure
                case Restart(delay_s=delay_s):
                    _log.warning("%s failed; restarting in %.1f s", name, delay_s, exc_info=failure)
                    await trio.sleep(delay_s)
        else:
            return


class Supervisor:
    """The parent of some children, one-for-one: each is restarted on its own.

    A child that fails past its policy escalates: the other children are cancelled and `ChildFailed` leaves the
    `open_supervisor` block, in an ExceptionGroup as from any nursery, so that whoever supervises the supervisor decides.
    Use `on_give_up` to keep the others instead; what that raises escalates too.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        policy: RestartPolicy,
        on_give_up: Callable[[ChildFailed], None] | None,
    ) -> None:
        self._nursery = nursery
        self._policy = policy
        self._on_give_up = on_give_up
        self._scopes: dict[str, trio.CancelScope] = {}

    @property
    def children(self) -> tuple[str, ...]:
        """Names of the children that are alive or about to be restarted."""
        return tuple(self._scopes)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C in the middle would leave a child that cannot be stopped
    def start_soon(
        self,
        child: Callable[[], Awaitable[None]],
        *,
        name: str,
        policy: RestartPolicy | None = None,
    ) -> None:
        """Start a child under a name that no living child has.

        Raises:
          ValueError: There is a child of that name; one that was stopped is there until it has ended.
          RuntimeError: The supervisor's block was left.
        """
        if name in self._scopes:
            raise ValueError(f"there is a child named {name!r} already")
        scope = trio.CancelScope()
        self._nursery.start_soon(self._keep, child, name, policy or self._policy, scope, name=name)
        self._scopes[name] = scope

    def stop(self, name: str) -> None:
        """Cancel one child for good; unknown names are those that ended already."""
        scope = self._scopes.get(name)
        if scope is not None:
            scope.cancel()

    async def _keep(
        self,
        child: Callable[[], Awaitable[None]],
        name: str,
        policy: RestartPolicy,
        scope: trio.CancelScope,
    ) -> None:
        try:
            with scope:
                await supervise(child, policy=policy, name=name)
        except ChildFailed as failure:
            if self._on_give_up is None:
                raise
            self._on_give_up(failure)
        finally:
            del self._scopes[name]


@asynccontextmanager
async def open_supervisor(
    policy: RestartPolicy | None = None,
    *,
    on_give_up: Callable[[ChildFailed], None] | None = None,
) -> AsyncIterator[Supervisor]:
    """Open a supervisor for the length of a block; leaving the block cancels what is alive in it."""
    async with trio.open_nursery() as nursery:
        yield Supervisor(nursery, policy or RestartPolicy(), on_give_up)
        nursery.cancel_scope.cancel()
