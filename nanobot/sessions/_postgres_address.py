"""Where the PostgreSQL server is, as the configuration says it: read once, and shown without its password."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import Any, Final

from nanobot.errors import ConfigError

__all__ = ["Address", "require_psycopg"]

# What a connection is given unless the URL says otherwise. A server that is gone without a word is noticed after ten seconds
# of silence, not after the two hours that systems wait.
_PARAMETERS: Final[Mapping[str, Any]] = {
    "application_name": "nanobot",
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "client_encoding": "utf8",
}


def require_psycopg() -> None:
    """Look for the library without importing it, which takes a while.

    Raises:
      ConfigError: It is not installed; the text says what to run.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(
            'sessions.store: "postgres" needs the extra `postgres`: pip install "nanobot-ai[postgres]"'
        )


class Address:
    """A database on a server. `repr` and `shown` have no password.

    Attributes:
      parameters: What `psycopg.connect` is given.
      shown: Host, port and database, for people.
      place: What two addresses of the same tables have in common; who looks at them is no part of it, nor how.
    """

    def __init__(self, url: str, *, synchronous: bool = True) -> None:
        """Read a URL (`postgresql://…`), or what libpq takes in its place.

        Args:
          url: As configured.
          synchronous: Whether a write waits for the server's disk.

        Raises:
          ConfigError: It cannot be read.
        """
        from psycopg import Error  # deferred: it takes 0.2 s, and nothing of it is needed before
        from psycopg.conninfo import conninfo_to_dict

        try:
            given = {
                name: value for name, value in conninfo_to_dict(url).items() if value is not None
            }
        except Error:
            # Not chained: the text may have the password in it.
            raise ConfigError(
                "sessions.url is no address of a PostgreSQL server, such as postgresql://user@host:5432/database; special "
                "characters in a password are written with %, as in p%40ss"
            ) from None
        self.parameters: dict[str, Any] = {**_PARAMETERS, **given}
        if not synchronous:
            options = str(given.get("options", ""))
            self.parameters["options"] = f"{options} -c synchronous_commit=off".strip()
        host = given.get("host") or given.get("hostaddr") or "localhost"
        port = given.get("port") or 5432
        schema = re.findall(r"search_path\s*=\s*(\S+)", str(given.get("options", "")))
        self.place = (host, str(port), given.get("dbname") or given.get("user"), tuple(schema))
        self.shown = f"{host}:{port}/{given.get('dbname') or given.get('user') or ''}"

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"
