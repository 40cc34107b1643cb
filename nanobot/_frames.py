"""Errors without the frames they came through, whose variables hold keys.

Some programs report errors with the variables of each frame: `rich` and error trackers do, and so does
`traceback.TracebackException(capture_locals=True)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from nanobot.errors import NanobotError

__all__ = ["forgetful", "without_frames"]

ErrorT = TypeVar("ErrorT", bound=BaseException)
ResultT = TypeVar("ResultT")
Arguments = ParamSpec("Arguments")


def without_frames(error: ErrorT) -> ErrorT:
    """Cut the traceback off an error, off what caused it, and off the members of groups; returns the error.

    An exception that is not its cause, and happened to be handled when it was raised, is let go of. What went wrong, and
    where, has to be in its text.
    """
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        if one.__suppress_context__:
            one.__context__ = one.__cause__
        pending += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
    return error


def forgetful(function: Callable[Arguments, ResultT]) -> Callable[Arguments, ResultT]:
    """Make a function's own errors come without its frames, and without its arguments."""

    @functools.wraps(function)
    def outermost(*args: Arguments.args, **kwargs: Arguments.kwargs) -> ResultT:
        try:
            return function(*args, **kwargs)
        except (NanobotError, FileNotFoundError) as error:
            failure = without_frames(error)
        del args, kwargs
        raise failure

    return outermost
