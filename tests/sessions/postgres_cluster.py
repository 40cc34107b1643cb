"""A PostgreSQL server of a test's own, to be stopped and started; if its programs are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Cluster", "open_cluster"]


class Cluster:
    """One server in a folder of its own.

    Attributes:
      url: Where its database is.
    """

    def __init__(self, programs: Path, folder: Path, as_user: list[str]) -> None:
        self._programs = programs
        self._folder = folder
        self._as_user = as_user
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        # A server that is stopped at once has written to the system, if not to the disk: nothing is lost without fsync.
        self._options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} "
            "-c fsync=off -c max_connections=200 -c log_min_messages=fatal"
        )

    def make(self) -> None:
        """Make its files."""
        self._call(
            "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
        )

    def start(self) -> None:
        """Start it, and wait until it can be connected to."""
        log = str(self._folder / "log")
        self._call("pg_ctl", "-D", self._data, "-o", self._options, "-l", log, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends all connections, "immediate" is a crash."""
        self._call("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._programs / program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=self._folder,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@contextmanager
def open_cluster() -> Iterator[Cluster]:
    """A server that is running; skips the test, and says why, if it cannot be had."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("no PostgreSQL server programs (initdb) on this machine")
    as_user: list[str] = []
    if os.geteuid() == 0:  # which the server refuses
        if shutil.which("setpriv") is None or not _user_exists("postgres"):
            pytest.skip("a PostgreSQL server does not run as root, and there is no user postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    folder = Path(tempfile.mkdtemp(prefix="nanobot-postgres-"))
    if as_user:
        shutil.chown(folder, "postgres")
    cluster = Cluster(places[-1], folder, as_user)
    try:
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")
    finally:
        shutil.rmtree(folder)


def _user_exists(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
