"""The environment of a command: what programs need to work at all, and what its owner lets through."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from nanobot.config import ExecSettings

__all__ = ["environment_for"]

_PASSED: Final = (
    "HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
)
"""Where things are, and in which language. Keys of services are in none of them."""


def environment_for(settings: ExecSettings, env: Mapping[str, str]) -> dict[str, str]:
    """What of `env` a command sees, with the search path as the settings want it.

    Python's output is not buffered, or that of a command which is stopped would be lost.
    """
    passed = {
        name: value
        for name, value in env.items()
        if name in _PASSED or name.startswith("LC_") or name in settings.allowed_env_keys
    }
    path = [settings.path_prepend, passed.get("PATH", os.defpath), settings.path_append]
    defaults = {"LANG": "C.UTF-8", "TERM": "dumb"}
    return (
        defaults | passed | {"PATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}
    )
