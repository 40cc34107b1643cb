"""Install the agent runtimes that ours is measured beside, each into an environment of its own below .bench-peers/.

    python benchmarks/_install_peers.py     # what `make bench-peers` runs; minutes, 1.3 GB

An environment that is there already is left alone: remove its folder to get a newer version.
"""

from __future__ import annotations

import subprocess
import sys
import venv

from benchmarks._subjects import PEER_FOLDER, PEERS

PACKAGES = {
    "nanobot-ai-0.2.2": ["nanobot-ai==0.2.2"],
    "nanobot-ai-latest": ["nanobot-ai"],
    "openai-agents": ["openai-agents"],
    "pydantic-ai": ["pydantic-ai-slim[openai]"],
    "langgraph": ["langgraph", "langgraph-checkpoint-sqlite", "langchain-openai"],
    "agno": ["agno", "openai", "sqlalchemy[asyncio]", "aiosqlite"],
}


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
    if failed:
        print(f"Not installed: {', '.join(failed)}. The same command tries again.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
