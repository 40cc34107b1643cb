"""Names of files behind which there is no file: opening one would wait, have an effect, or never come to an end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

__all__ = ["any_special_file", "harmless_special_file", "make_special"]


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket may have about 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    path.symlink_to(os.devnull)


_MAKERS: Final[dict[str, Callable[[Path], None]]] = {
    "a named pipe": _pipe,
    "a folder": _folder,
    "a socket": _socket,
    "a device": _device,
}

any_special_file: Final = pytest.mark.parametrize("kind", [*_MAKERS])
"""Run a test with each kind, as its argument `kind`."""

harmless_special_file: Final = pytest.mark.parametrize(
    "kind", [kind for kind in _MAKERS if kind != "a device"]
)
"""As `any_special_file`, without the device: a write that replaced it would, for the superuser, replace /dev/null."""


def make_special(path: Path, kind: str) -> None:
    """Put one in place; skips the test where there are none."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    path.parent.mkdir(parents=True, exist_ok=True)
    _MAKERS[kind](path)
