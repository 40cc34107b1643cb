"""The process's environment, as it was when a bot was made."""

from __future__ import annotations

__all__ = ["Environment"]


class Environment(dict[str, str]):
    """Variables by name; `repr` shows none of them, for some are keys, and an environment may reach a log or a traceback."""

    def __repr__(self) -> str:
        return f"<environment of {len(self)} variables>"
