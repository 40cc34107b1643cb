"""The child process: llama.cpp's server on a loopback port, for as long as the parent lives.

Started by `_child` as a file and not as a module: it needs nothing of nanobot and little of the standard library, and
so it serves 0.4 s after it was started. Its one argument is a `ServerSettings` as JSON. It answers with one line of
JSON on stdout, `{"url": …, "api_key": …}`, and then serves until stdin ends.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from xllamacpp import CommonParams, Server

__all__ = ["ServerSettings", "threads_for"]

# Defaults for requests that say nothing else, chosen by reading answers of SmolLM2-135M to 24 short questions. Sampling
# makes a model of this size wander off (Paris becomes a woman, in French), greedy decoding repeats itself without end.
# DRY punishes sequences that were there before, the more the longer they get. It begins at twelve tokens, which are a
# date with its time: when they may not be copied from the prompt, the model invents others. That answered all 24; with a
# repetition penalty of 1.05, which punishes each single word, it was 19 (there is no second 2 in 2 + 2).
# `Source:` https://github.com/ggml-org/llama.cpp/pull/9702
_TEMPERATURE: Final = 0.0
_DRY_MULTIPLIER: Final = 0.8
_DRY_ALLOWED_LENGTH: Final = 12

_MAX_TOKENS: Final = 512
"""Where an answer ends that nobody limited; this model has long lost the thread by then."""

_PROMPT_CACHE_MIB: Final = 64
"""What may be kept of sessions that hold no slot, so that their next turn need not begin anew: 2,800 tokens of
SmolLM2-135M. llama.cpp's own limit is 8 GiB."""

_LOG_BYTES: Final = 256 * 1024
"""The log is for the one who wonders why the server ended; only errors are written to it, a line each."""

_LOOK_EVERY_S: Final = 1.0


class ServerSettings(NamedTuple):
    """What the parent asks for.

    Attributes:
      model: The name by which answers call the model.
      model_path: A GGUF file.
      context_window_tokens: Of each request, prompt and answer together.
      parallel: How many requests are answered at once; the others wait in order.
      import_path: The folder from which to import xllamacpp.
    """

    model: str
    model_path: str
    context_window_tokens: int
    parallel: int
    import_path: str


def threads_for(cores: int) -> tuple[int, int]:
    """Return how many threads compute one token, and how many compute several (a prompt, or many answers at once).

    One core is left to the program whose model this is. Threads wait for each other many times per layer, so when they
    outnumber the free cores everything stalls: on two cores that others kept busy, four answers at once took 22 s with
    two threads and 5 s with one (2.3 and 4.1 s on idle ones). A single token has too little work for more than a few.
    """
    return max(1, min(4, cores // 2)), max(1, min(8, cores - 1))


def main(argument: str) -> NoReturn:
    """Serve until the parent is gone."""
    settings = ServerSettings(**json.loads(argument))
    parent = os.getppid()
    # Native code writes to stdout as it likes; the pipe behind it is for our one line.
    to_parent = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_exit_with_stdin, daemon=True).start()
    api_key = secrets.token_urlsafe(32)
    server = _start(settings, api_key)
    line = json.dumps({"url": server.listening_address, "api_key": api_key}) + "\n"
    try:
        os.write(to_parent, line.encode())
    except BrokenPipeError:
        os._exit(0)
    os.close(to_parent)
    # The end of stdin says at once that the parent is gone, but not if the parent forked: the copy holds the other end
    # too. The parent's id says it always. PR_SET_PDEATHSIG would not do: it counts the life of the parent's *thread*
    # that started us, and Trio starts processes from threads that it drops after ten idle seconds.
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
        _bound_log()
    os._exit(0)


def _exit_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)  # without the destructors of native code, which would wait for its threads


def _start(settings: ServerSettings, api_key: str) -> Server:
    sys.path.insert(0, settings.import_path)
    try:
        # deferred: what it writes must not reach the parent's pipe, and a broken wheel must be told in one line
        import xllamacpp
    except ImportError as exc:
        sys.exit(f"xllamacpp cannot be loaded: {exc}")
    sys.path.remove(settings.import_path)
    try:
        return xllamacpp.Server(_parameters(xllamacpp.CommonParams(), settings, api_key))
    except Exception as exc:  # noqa: BLE001 - native code raises what it likes
        sys.exit(f"{type(exc).__name__}: {exc}")


def _parameters(parameters: CommonParams, settings: ServerSettings, api_key: str) -> CommonParams:
    parameters.model.path = settings.model_path
    parameters.model_alias = {settings.model}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [api_key]  # a loopback port is open to every user of the machine
    parameters.ui = parameters.endpoint_slots = False
    parameters.offline = True
    parameters.verbosity = 1  # errors
    parameters.warmup = parameters.fit_params = False  # the latter reads the model twice
    # Each slot has a cache of its own. Sharing one (`kv_unified`) would save memory, but when it overflows llama.cpp
    # fails every request in flight: sessions would not be isolated. Its entries keep their 16 bits: with 8 the child
    # takes 350 MB instead of 520, and a prompt of 3,000 tokens 2.5 times as long.
    parameters.n_parallel = settings.parallel
    parameters.n_ctx = settings.context_window_tokens * settings.parallel
    parameters.cache_ram_mib = _PROMPT_CACHE_MIB
    parameters.n_predict = _MAX_TOKENS
    parameters.sampling.temp = _TEMPERATURE
    parameters.sampling.dry_multiplier = _DRY_MULTIPLIER
    parameters.sampling.dry_allowed_length = _DRY_ALLOWED_LENGTH
    one_token, many_tokens = threads_for(_usable_cores())
    parameters.cpuparams.n_threads = one_token
    parameters.cpuparams_batch.n_threads = many_tokens
    parameters.cpuparams.poll = parameters.cpuparams_batch.poll = 0  # idle threads sleep
    return parameters


def _usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bound_log() -> None:
    if os.fstat(2).st_size > _LOG_BYTES:  # 0 when stderr is not a file
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


if __name__ == "__main__":
    main(sys.argv[1])
