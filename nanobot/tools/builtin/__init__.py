"""The tools that come with nanobot. They hold no state: each call is told its workspace by the `RunContext`."""

from .._tool import Tool
from .apply_patch import apply_patch
from .edit_file import edit_file
from .find_files import find_files
from .grep import grep
from .list_dir import list_dir
from .read_file import read_file
from .write_file import write_file

__all__ = [
    "apply_patch",
    "builtin_tools",
    "edit_file",
    "find_files",
    "grep",
    "list_dir",
    "read_file",
    "write_file",
]


def builtin_tools() -> tuple[Tool, ...]:
    """All built-in tools."""
    return (apply_patch, edit_file, find_files, grep, list_dir, read_file, write_file)
