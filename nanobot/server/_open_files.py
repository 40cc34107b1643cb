"""How many files this process may have open; each connection is one."""

from __future__ import annotations

import sys

__all__ = ["allow_many_files"]


def allow_many_files() -> None:
    """Raise this process's limit to what the system allows. For programs, not for libraries: it is the whole process's."""
    if sys.platform == "win32":
        return
    import resource  # deferred: Windows has no such module

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # macOS says "unlimited" and means something else: what there is will do
