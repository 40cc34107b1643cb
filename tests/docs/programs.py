"""How a program of a page is run: as a reader would, with every warning an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["output_of"]


def output_of(program: str, folder: Path) -> str:
    """Run a program in a folder and return what it printed. It must end well and have nothing to complain about."""
    completed = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=False,
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    return completed.stdout
