"""The OpenAI-compatible server: a bot over HTTP. Needs the extra `server`."""

from ._access import check_bind
from ._app import make_app
from ._open_files import allow_many_files
from ._serve import serve
from ._service import ServerSettings, Service, settings_from_config

__all__ = [
    "ServerSettings",
    "Service",
    "allow_many_files",
    "check_bind",
    "make_app",
    "serve",
    "settings_from_config",
]
