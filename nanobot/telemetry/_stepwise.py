"""Awaiting something with another value in one context variable, in a context that others use at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

__all__ = ["Stepwise"]

T = TypeVar("T")


class Stepwise(Generic[T]):
    """Awaits something step by step: the value is set before each step and put back after it.

    Tools and hooks of a run share their caller's context, so that one sees the variables which another has set. Several of
    them may run at once, and each needs a current span of its own. A step is not interrupted by anybody who shares the
    context; between two steps the value is nobody's. What a step itself leaves in the variable it finds there again.

    Args:
      awaitable: What to await.
      value: The value at the beginning.
      get: Reads the variable.
      set: Sets it and returns a token.
      reset: Puts back what was there before the token.
    """

    def __init__(
        self,
        awaitable: Awaitable[T],
        value: Any,
        *,
        get: Callable[[], Any],
        set: Callable[[Any], Any],
        reset: Callable[[Any], object],
    ) -> None:
        self._awaitable = awaitable
        self._value = value
        self._get = get
        self._set = set
        self._reset = reset

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._awaitable.__await__()
        assert isinstance(steps, Generator)  # as those of coroutines, tasks and futures are
        step: Callable[[Any], Any] = steps.send
        given: Any = None
        while True:
            try:
                waited_for = self._take(step, given)
            except StopIteration as stop:
                result: T = stop.value
                return result
            try:
                given = yield waited_for
                step = steps.send
            except GeneratorExit:
                self._take(lambda _: steps.close(), None)
                raise
            except BaseException as error:  # noqa: ASYNC103, BLE001 - handed on, into what is awaited
                given, step = error, steps.throw

    def _take(self, step: Callable[[Any], Any], given: Any) -> Any:
        token = self._set(self._value)
        try:
            return step(given)
        finally:
            self._value = self._get()
            self._reset(token)
