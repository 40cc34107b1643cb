"""The live system: one actor per session, the lock that override runs take, and what a run needs to be carried out."""

from ._json_logs import JsonFormatter
from ._offered import OfferedTools
from ._providers import Providers, retry_policy
from ._request import RunOptions, RunRequest, check_approver, make_request
from ._run import CURRENT_RUN, Run
from ._run_trace import follow
from ._runtime import Runtime, closed
from ._spending import Budgets
from ._statistics import (
    LATENCY_BOUNDS_S,
    LiveRun,
    LockState,
    LockWaiter,
    RuntimeStatistics,
    SessionLoad,
    TurnCounter,
    TurnTotals,
)
from ._turn_maker import TurnMaker

__all__ = [
    "CURRENT_RUN",
    "LATENCY_BOUNDS_S",
    "Budgets",
    "JsonFormatter",
    "LiveRun",
    "LockState",
    "LockWaiter",
    "OfferedTools",
    "Providers",
    "Run",
    "RunOptions",
    "RunRequest",
    "Runtime",
    "RuntimeStatistics",
    "SessionLoad",
    "TurnCounter",
    "TurnMaker",
    "TurnTotals",
    "check_approver",
    "closed",
    "follow",
    "make_request",
    "retry_policy",
]
