"""The live system: one actor per session, the lock that override runs take, and what a run needs to be carried out."""

from ._json_logs import JsonFormatter
from ._nesting import enclosing_runs
from ._offered import OfferedTools
from ._open_sessions import OPEN_TURN
from ._providers import Providers, retry_policy
from ._request import (
    DEFAULT_SESSION_KEY,
    RunOptions,
    RunRequest,
    check_approver,
    check_names,
    checked_hooks,
    make_request,
)
from ._resume import REMEMBERED_OPTIONS
from ._run import CURRENT_RUN, OnBusy, Run
from ._run_trace import follow
from ._runtime import Runtime, closed
from ._spending import Budgets
from ._statistics import (
    LATENCY_BOUNDS_S,
    LiveRun,
    LockState,
    LockWaiter,
    PlaceState,
    RuntimeStatistics,
    SessionLoad,
    TurnCounter,
    TurnTotals,
)
from ._steering import Steering
from ._subagents import Errand
from ._turn_maker import TurnMaker

__all__ = [
    "CURRENT_RUN",
    "DEFAULT_SESSION_KEY",
    "LATENCY_BOUNDS_S",
    "OPEN_TURN",
    "REMEMBERED_OPTIONS",
    "Budgets",
    "Errand",
    "JsonFormatter",
    "LiveRun",
    "LockState",
    "LockWaiter",
    "OfferedTools",
    "OnBusy",
    "PlaceState",
    "Providers",
    "Run",
    "RunOptions",
    "RunRequest",
    "Runtime",
    "RuntimeStatistics",
    "SessionLoad",
    "Steering",
    "TurnCounter",
    "TurnMaker",
    "TurnTotals",
    "check_approver",
    "check_names",
    "checked_hooks",
    "closed",
    "enclosing_runs",
    "follow",
    "make_request",
    "retry_policy",
]
