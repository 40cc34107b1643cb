"""Read a file that the user named. It may be a pipe: `<(command)`, /dev/stdin, or one with a name."""

from __future__ import annotations

import os
import select
import stat
from io import FileIO
from pathlib import Path

import click

__all__ = ["is_passing", "read_named"]


def is_passing(file: str) -> bool:
    """Whether what is in a file can be read only once, as from a pipe or a terminal. Not if there is none."""
    try:
        mode = Path(file).stat().st_mode
    except OSError:
        return False  # which reading will say
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def read_named(file: str) -> bytes:
    """Read a file to its end, or a pipe until its last writer has closed it.

    Who names a pipe wants what will come out of it, and it is not ours to say which side has to be there first. So one
    that nobody has opened for writing is waited for, as by any command; but the user is told, for otherwise this looks
    like work, and a pipe that was named by mistake like a command that hangs.

    Raises:
      OSError: It cannot be read.
    """
    if stat.S_ISFIFO(Path(file).stat().st_mode):
        return _read_pipe(file)
    return Path(file).read_bytes()


def _read_pipe(file: str) -> bytes:
    # Not to wait in `open`, where a writer that comes and goes at the wrong moment could be missed.
    with FileIO(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as pipe:
        writer = select.poll()
        writer.register(pipe, select.POLLIN)
        first = pipe.read(1)  # None: there is a writer, who has written nothing yet
        if first == b"" and not writer.poll(0):  # neither is there one, nor was there
            click.echo(f"Waiting for somebody to write to the pipe {file}; Ctrl-C stops.", err=True)
            writer.poll()
        os.set_blocking(pipe.fileno(), True)
        return (first or b"") + (pipe.readall() or b"")
