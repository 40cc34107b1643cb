"""Hosts as for the SDK: each story runs under asyncio and under trio, with a HOME of its own."""

from tests.sdk.conftest import home, host

__all__ = ["home", "host"]
