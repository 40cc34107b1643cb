"""`write_file`: a whole new content for a file."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from ._text import bytes_from_text

__all__ = ["write_file"]


@tool(on_host=False, timeout_s=60)
async def write_file(
    context: RunContext,
    path: Annotated[str, Meta(description="File, relative to the workspace.")],
    content: Annotated[str, Meta(description="All of its text.")],
) -> str:
    """Create a file, or replace all of one. Missing folders are made. Prefer edit_file for changes."""
    return await in_file_thread(lambda: _written(context, path, content))


def _written(context: RunContext, path: str, content: str) -> str:
    new = bytes_from_text(content, "content")
    replaced = context.confined.write_file(path, new)
    lines = content.count("\n") + (not content.endswith("\n") and content != "")
    return (
        f"{'Replaced' if replaced else 'Created'} {context.confined.display(path)}:"
        f" {len(content):,} characters, {lines:,} {'line' if lines == 1 else 'lines'}."
    )
