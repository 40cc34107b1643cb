"""Posting to a Trio run that may have ended in the meantime, or crashed."""

from __future__ import annotations

from collections.abc import Callable

import trio

__all__ = ["post_unless_ended", "run_ended"]


def post_unless_ended(
    token: trio.lowlevel.TrioToken,
    function: Callable[..., object],
    *args: object,
    idempotent: bool = False,
) -> bool:
    """Have `function(*args)` called in the run of `token` soon; returns False if there is no such run any more.

    What the function raises would be an internal error of Trio's and end the run.
    """
    try:
        token.run_sync_soon(function, *args, idempotent=idempotent)
    except trio.RunFinishedError:
        return False
    except (
        OSError
    ):  # the run crashed: Trio closed its wake-up socket, and did not note that the run is over
        return False
    return True


def run_ended(token: trio.lowlevel.TrioToken) -> bool:
    """Whether the run of `token` is over."""
    return not post_unless_ended(token, _nothing, idempotent=True)


def _nothing() -> None:
    """Posted to learn whether the run is there."""
