"""How often a process that is all nanobot's looks for garbage."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["collect_seldom"]

_ALLOCATIONS: Final = 50_000
"""Between two looks at the youngest objects. By Python's default of 700, a thousand turns at once survive three looks each and
are taken for old; a third of their CPU goes into looking at them again (benchmarks/plain_turn.py)."""


def collect_seldom() -> None:
    """Have Python look for garbage seldom, and never again at what there is now.

    For whoever owns the process, once, when everything is imported: it holds for all code in it. Cycles that are garbage stay
    up to a hundred times as long as by default, which is a few megabytes. `nanobot serve` and `nanobot gateway` call it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
