"""What pages want to remember of their lists of chats: one JSON object for all of them, in a file of the workspace."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import msgspec

from nanobot.errors import ToolError
from nanobot.tools import Workspace

from ._client_frames import FrameError

__all__ = ["Sidebar"]

_log = logging.getLogger("nanobot.gateway")

_FILE: Final = ".nanobot/sidebar.json"
_MAX_BYTES: Final = 256 * 1024
"""Pins and names of thousands of chats."""


class Sidebar:
    """The last state that a page has set. `read` and `keep` wait for a disk."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = Workspace(workspace)
        self.state: dict[str, Any] = {}

    def read(self) -> None:
        """Take up what was kept before; what cannot be read is forgotten: a page can do without."""
        try:
            with self._workspace.open_read(_FILE) as file:
                content = file.read(_MAX_BYTES + 1)
            self.state = msgspec.json.decode(content, type=dict[str, Any])
        except (ToolError, OSError, ValueError, RecursionError) as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                _log.warning("the state of the sidebar cannot be read: %s", error)

    def keep(self, state: dict[str, Any]) -> None:
        """Replace it.

        Raises:
          FrameError: It is too large, or cannot be written.
        """
        content = msgspec.json.encode(state)
        if len(content) > _MAX_BYTES:
            raise FrameError("too_long", f"the state may have {_MAX_BYTES} bytes")
        try:
            self._workspace.write_file(_FILE, content)
        except ToolError as error:
            raise FrameError("unavailable", str(error)) from error
        self.state = state
