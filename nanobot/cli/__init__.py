"""The `nanobot` command, for people at a terminal."""

from ._main import main

__all__ = ["main"]
