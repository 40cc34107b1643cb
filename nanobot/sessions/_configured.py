"""The store that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from nanobot.config import Config, claim_sessions_folder, refuse_sessions_inside, state_folder
from nanobot.errors import ConfigError, StoreError

from ._deferred import DeferredStore
from ._in_memory import InMemoryStore
from ._postgres_address import require_psycopg
from ._store import Durability, SearchableStore

__all__ = ["DATABASE_NAME", "configured_store"]

DATABASE_NAME = "sessions.sqlite3"
"""The file of a workspace's sessions, in `<config dir>/sessions/<workspace id>/`."""


def configured_store(config: Config, workspace: Path) -> SearchableStore:
    """The store for one workspace's sessions. Touches no disk: what is needed there is made when it is first needed.

    Args:
      config: Says which (`sessions.store`), and where: sessions lie beside the configuration file.
      workspace: The folder that tools work in; old session files in its folder `sessions` are found too.

    Raises:
      ConfigError: The sessions would lie inside the workspace, or the store lacks its URL or its library.
    """
    settings = config.sessions
    match settings.store:
        case "sqlite" if config.path is not None:
            path = config.path
            refuse_sessions_inside(path, workspace)
            return DeferredStore(lambda: _sqlite_store(path, workspace, settings.durability))
        case "postgres":
            url = settings.url
            if not url:
                raise ConfigError(
                    'sessions.store: "postgres" needs sessions.url, such as postgresql://user:${PASSWORD}@host:5432/database'
                )
            require_psycopg()
            return DeferredStore(
                lambda: _postgres_store(url, settings.durability, settings.max_connections)
            )
        case _:
            return InMemoryStore()


def _sqlite_store(config_path: Path, workspace: Path, durability: Durability) -> SearchableStore:
    # deferred: SQLite costs 8 ms to import, and a bot may never look at a session
    from ._sqlite import SqliteStore

    try:
        folder = claim_sessions_folder(config_path, workspace)
    except ConfigError as error:  # the configuration is as good as before; it is the disk
        sessions = state_folder(config_path) / "sessions"
        raise StoreError(f"sessions cannot be kept in {sessions}: {error}") from error
    return SqliteStore(
        folder / DATABASE_NAME,
        durability=durability,
        old_files=(folder, workspace / "sessions"),
    )


def _postgres_store(url: str, durability: Durability, max_connections: int) -> SearchableStore:
    # deferred: psycopg takes 0.2 s to import
    from ._postgres import PostgresStore

    try:
        return PostgresStore(
            url, synchronous=durability == "commit", max_connections=max_connections
        )
    except ConfigError as error:
        raise StoreError(str(error)) from None
