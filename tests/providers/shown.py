"""What tests look through for keys: all that a tracer, a logger or a debugger may show of an exception."""

from __future__ import annotations

import traceback

__all__ = ["all_that_is_shown_of"]


def all_that_is_shown_of(error: BaseException) -> str:
    """The exception as an error reporter has it: text, attributes, and each frame with the variables in it.

    So for everything that it was raised from. Frames of tests are left out, for these know their own keys.
    """
    shown: list[str] = []
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        shown += [repr(one), str(one), repr(one.args), repr(vars(one))]
        shown += getattr(one, "__notes__", ())
        frames = [
            frame
            for frame, _ in traceback.walk_tb(one.__traceback__)
            if "/tests/" not in frame.f_code.co_filename
        ]
        for frame in frames:
            where = f"{frame.f_code.co_filename} {frame.f_code.co_name}"
            shown += [f"{where}: {name} = {_shown(it)}" for name, it in frame.f_locals.items()]
        pending += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
    return "\n".join(shown)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a strange object in some library's frame
        return f"<{type(error).__name__}>"
