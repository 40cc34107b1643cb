"""The live system: one actor per session, the lock that override runs take, and what a run needs to be carried out."""

from ._request import RunOptions, RunRequest, make_request
from ._run import CURRENT_RUN, Run
from ._runtime import Runtime, closed

__all__ = [
    "CURRENT_RUN",
    "Run",
    "RunOptions",
    "RunRequest",
    "Runtime",
    "closed",
    "make_request",
]
