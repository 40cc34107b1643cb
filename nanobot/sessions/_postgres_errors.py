"""What went wrong with the database server, in words that say which one and what to do. Pure."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors

from nanobot.errors import StoreError

__all__ = [
    "UncertainWrite",
    "closed_error",
    "is_lost",
    "may_work_again",
    "store_error",
    "uncertain_error",
]

# Nothing of the transaction has happened, and the same again may work.
_AGAIN: Final = (errors.SerializationFailure, errors.DeadlockDetected)

# The server ends, or has just begun: soon it will be back.
_RESTARTING: Final = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)

# What a server, or pgbouncer, says to those who come while it is not ready for them.
_PASSING: Final = (
    "starting up",
    "shutting down",
    "in recovery",
    "not yet accepting",
    "terminating connection",
    "too many clients",
    "remaining connection slots",
    "cannot connect to server",
    "server login has been failing",
    "server_login_retry",
    "connect failed",
)


def may_work_again(error: psycopg.Error) -> bool:
    """Whether the statement was undone as a whole for a reason that may pass at once."""
    return isinstance(error, _AGAIN)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or there never was one, so that another may do better."""
    if isinstance(error, _RESTARTING):
        return True
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    if error.sqlstate is not None:
        return error.sqlstate.startswith("08")
    # A refusal to let us in has no code in libpq, only its text.
    said = str(error)
    return "FATAL:" not in said or any(passing in said for passing in _PASSING)


def store_error(shown: str, error: psycopg.Error) -> StoreError:
    """Say what the server said, and the way out."""
    told = StoreError(_explained(f"the session database {shown}", error))
    told.__cause__ = error
    return told


class UncertainWrite(StoreError):
    """Nobody knows whether a write was stored."""


def uncertain_error(shown: str, error: psycopg.Error) -> UncertainWrite:
    """For a write whose answer was lost."""
    told = UncertainWrite(
        f"the connection to the session database {shown} was lost during a write, which may or may not have been stored: {error}"
    )
    told.__cause__ = error
    return told


def closed_error() -> StoreError:
    """For a write to a store that was closed."""
    return StoreError("the session store is closed: sessions can be read, not written")


def _explained(database: str, error: psycopg.Error) -> str:
    said = " ".join(str(error).split())
    match error:
        case errors.DiskFull():
            return f"no space is left for {database}: nothing of this write was stored"
        case errors.ReadOnlySqlTransaction():
            return (
                f"{database} is read-only, a standby perhaps: sessions.url has to name the primary"
            )
        case errors.InsufficientPrivilege():
            return (
                f"{database} forbids this user what sessions need: {said}; the user needs CREATE on the schema for the first "
                "start, and its own tables after that"
            )
        case errors.InvalidSchemaName():
            return f"{database} has no schema to put tables in: {said}; check search_path"
        case _ if is_lost(error):
            return f"{database} cannot be reached: {said}; check that the server runs, and sessions.url"
        case _ if "FATAL:" in said:
            return f"{database} lets nobody in: {said}; check user, password and database in sessions.url"
        case _:
            return f"{database} could not do this: {said}"
