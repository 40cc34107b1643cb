"""One real request, to see whether the model answers."""

from __future__ import annotations

import time
from typing import Final

from msgspec import Struct

from nanobot.errors import NanobotError

from ._failure import Failure, advice, failure_from_error
from ._instance import Instance

__all__ = ["Check", "check"]

# Models that think take a while over anything; what outlasts this does not answer.
TIMEOUT_S: Final = 120.0
QUESTION: Final = "Answer with the one word: ready"


class Check(Struct, frozen=True, kw_only=True, rename="camel"):
    """What came of one real request."""

    ok: bool
    seconds: float = 0.0
    answer: str = ""
    error: str = ""
    do: str = ""


def check(instance: Instance) -> Check:
    """Ask the instance's model one small question, which leaves no trace in any session."""
    started = time.perf_counter()
    try:
        with instance.open() as bot:
            result = bot.run_sync(
                QUESTION,
                session_key="cli:check",
                ephemeral=True,
                max_iterations=1,
                timeout_s=TIMEOUT_S,
            )
    except Failure as failure:
        return Check(ok=False, error=failure.message, do=failure.do)
    except NanobotError as error:
        told = failure_from_error(error)
        return Check(ok=False, error=told.message, do=told.do)
    seconds = round(time.perf_counter() - started, 3)
    if result.error is not None:
        kind = str(result.metadata.get("exception_type", ""))
        return Check(ok=False, seconds=seconds, error=result.error, do=advice(kind))
    return Check(ok=True, seconds=seconds, answer=result.content.strip())
