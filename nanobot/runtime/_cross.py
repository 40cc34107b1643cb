"""How a turn in the engine calls what lives in its caller's loop."""

from __future__ import annotations

from contextvars import copy_context

from actors import Home, Host, call_host
from nanobot.telemetry import Telemetry
from nanobot.tools import Cross, run_here

__all__ = ["cross_of"]


def cross_of(home: Home, host: Host, telemetry: Telemetry | None) -> Cross:
    """The way from the engine to the caller's loop, in the caller's context, which is the current one here."""
    if getattr(host, "local", False):
        return run_here
    context = copy_context()
    if telemetry is not None:

        async def traced_cross(function, /, *args):  # type: ignore[no-untyped-def]  # as below
            here = telemetry.here()
            return await call_host(home, host, context, telemetry.within, here, function, *args)

        return traced_cross

    async def cross(function, /, *args):  # type: ignore[no-untyped-def]  # typed by the Protocol it fills
        return await call_host(home, host, context, function, *args)

    return cross
