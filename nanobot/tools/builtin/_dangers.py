"""What a command would destroy at a stroke, decided by its words.

This stops accidents: a model that cleans up too eagerly, a line that was copied from the wrong page. It is no boundary.
A script, an interpreter or a variable can do all of this and is not seen through; what must not happen has to be made
impossible, by the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ._shell_syntax import SimpleCommand, TooIntricate, commands_of

__all__ = ["danger_in"]

_MOST_JUDGED: Final = 5_000
"""Commands that are looked at, those inside `sh -c` counted too: without a bound, nesting multiplies them."""

_MOST_CHARS: Final = 500_000
"""Characters that are read for one text, those inside `sh -c` and `eval` again: 0.5 s of a thread."""

_WORDS_TRIED: Final = 50
"""Behind `sudo` and the like. Nobody gives it so many options."""

_SHELLS: Final = frozenset({"sh", "bash", "zsh", "dash", "ash", "ksh", "mksh", "fish"})

# Programs that run what stands behind them: their options that take a value, and how many words come before it.
_RUNNERS: Final[dict[str, tuple[str, int]]] = {
    "sudo": ("CDghpRrTtUu", 0),
    "doas": ("Cu", 0),
    "env": ("CuS", 0),
    "nice": ("n", 0),
    "ionice": ("cnpPu", 0),
    "nohup": ("", 0),
    "time": ("fo", 0),
    "timeout": ("ks", 1),
    "stdbuf": ("eio", 0),
    "setsid": ("", 0),
    "chrt": ("DPT", 1),
    "taskset": ("", 1),
    "exec": ("a", 0),
    "command": ("", 0),
    "builtin": ("", 0),
    "busybox": ("", 0),
    "toybox": ("", 0),
    "xargs": ("adEIiLlnPs", 0),
    "parallel": ("jnNILC", 0),
    "watch": ("nq", 0),
    "strace": ("abeEIoOpPsSuUX", 0),
    "unshare": ("GRSw", 0),
    "chroot": ("", 1),
    "flock": ("EwT", 1),
    "script": ("BcEIoOTm", 0),
    "su": ("cgGsTw", 1),
    "runuser": ("cgGsu", 1),
    "ssh": ("BbcDEeFIiJLlmOopQRSWw", 1),
    "caffeinate": ("tw", 0),
}
_TAKE_TEXT: Final = frozenset(
    {"env", "flock", "parallel", "runuser", "script", "ssh", "su", "watch"}
)
"""Those of them that also take a whole line of shell as one word."""

# Words before which a command begins.
_KEYWORDS: Final = frozenset(
    {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "}", "coproc"}
)
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*\+?=")

_MAKES_FILE_SYSTEM: Final = re.compile(r"mkfs(\..*)?|mke2fs|mkswap|wipefs|blkdiscard|diskpart")
_SWITCHES_OFF: Final = frozenset({"shutdown", "reboot", "poweroff", "halt"})
_SWITCHING_OFF: Final = frozenset({"halt", "kexec", "poweroff", "reboot", "soft-reboot"})
_DISK: Final = re.compile(
    r"/dev/(?:[shv]d[a-z]|xvd[a-z]|nvme\d|mmcblk\d|mapper/|dm-\d|md\d|r?disk|loop\d|block/|k?mem$|port$)"
)
_NO_DISK: Final = re.compile(r"/dev/(?:null|zero|full|tty\d*|std(?:out|err)|fd/|shm/|pts/)")
_FORK_BOMB: Final = re.compile(
    r"([^\s(){};|&]{1,64})\s{0,9}\(\s{0,9}\)\s{0,9}\{[^}]{0,200}?(?<![^\s{;|&])\1\s{0,9}[|&]\s{0,9}\1\s{0,9}&"
)

_RM: Final = "it deletes folders with all that is in them"
_MANY: Final = "it deletes every file that a search finds"
_FORMAT: Final = "it wipes a file system"
_WRITE: Final = "it writes to a disk past its file system"
_OFF: Final = "it switches the machine off"
_BOMB: Final = "it is a fork bomb"
_INTRICATE: Final = "it is too intricate to be judged; put it into a script"


def danger_in(text: str) -> str:
    """Say what a line of shell would destroy; "" if nothing is seen."""
    if _FORK_BOMB.search(text):
        return _BOMB
    try:
        return _Judge().judge(text)
    except (TooIntricate, RecursionError):
        return _INTRICATE


class _Judge:
    """Looks at commands, and at those inside them, until one is dangerous or there are too many."""

    def __init__(self) -> None:
        self._left = _MOST_JUDGED
        self._chars_left = _MOST_CHARS

    def judge(self, text: str) -> str:
        self._chars_left -= len(text)
        if self._chars_left < 0:
            raise TooIntricate
        commands = commands_of(text, most=self._left)
        self._left -= len(commands)
        return next(filter(None, map(self._judged, commands)), "")

    def _judged(self, command: SimpleCommand) -> str:
        if any(_DISK.match(target) for target in command.writes_to):
            return _WRITE
        words = _without_prefix(command.words)
        return self._danger(words, command) if words else ""

    def _danger(self, words: Sequence[str], command: SimpleCommand) -> str:
        name = _name_of(words[0])
        if danger := _destruction(name, words) or _switches_off(name, words):
            return danger
        if name in _SHELLS:
            return self._in_shell(words, command)
        if name == "eval":
            return self.judge(" ".join(words[1:]))
        if name == "find":
            return self._in_find(words, command)
        if name in _RUNNERS:
            return self._behind_runner(name, words, command)
        return ""

    def _in_shell(self, words: Sequence[str], command: SimpleCommand) -> str:
        if any(re.fullmatch(r"[-+][A-Za-z]*c[A-Za-z]*", word) for word in words[1:]):
            return self._first(word for word in words[1:] if not word.startswith("-"))
        texts = [command.is_fed]
        if command.piped_from is not None:
            said = _without_prefix(command.piped_from.words)
            if said and _name_of(said[0]) in ("echo", "printf", "cat"):
                texts += [" ".join(said[1:]), *said[1:], command.piped_from.is_fed]
        return self._first(texts)

    def _first(self, texts: Iterator[str] | Sequence[str]) -> str:
        return next(filter(None, map(self.judge, texts)), "")

    def _in_find(self, words: Sequence[str], command: SimpleCommand) -> str:
        if "-delete" in words:
            return _MANY
        for index, word in enumerate(words[:-1]):
            if word in ("-exec", "-execdir", "-ok", "-okdir"):
                run = words[index + 1 :]
                if _name_of(run[0]) == "rm":
                    return _MANY
                if danger := self._danger(run, command):
                    return danger
        return ""

    def _behind_runner(self, name: str, words: Sequence[str], command: SimpleCommand) -> str:
        # Wherever it begins: options are many, and change.
        for index in range(1, min(len(words), _WORDS_TRIED)):
            if danger := _destruction(_name_of(words[index]), words[index:]):
                return danger
        if name in _TAKE_TEXT and (danger := self._first(w for w in words[1:] if " " in w)):
            return danger
        run = _behind_options(words, *_RUNNERS[name])
        if not run:
            return ""
        if name in ("xargs", "parallel") and _name_of(run[0]) == "rm":
            return _MANY
        return self._danger(run, command)


def _without_prefix(words: Sequence[str]) -> Sequence[str]:
    """The words from the command's name on, without keywords and assignments."""
    start = 0
    while start < len(words):
        if words[start] == "function":
            start += 2
        elif words[start] in _KEYWORDS or _ASSIGNMENT.match(words[start]):
            start += 1
        else:
            break
    return words[start:]


def _behind_options(words: Sequence[str], with_value: str, before: int) -> Sequence[str]:
    """What a runner runs: the words behind its options and its own arguments."""
    index = 1
    while index < len(words):
        word = words[index]
        if word == "--":
            index += 1
            break
        if word.startswith("-") and len(word) > 1:
            takes_next = not word.startswith("--") and word[-1] in with_value
            index += 2 if takes_next else 1
        elif _ASSIGNMENT.match(word):
            index += 1
        else:
            break
    return words[index + before :]


def _name_of(word: str) -> str:
    return word.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")


def _destruction(name: str, words: Sequence[str]) -> str:
    """What a command destroys by its own doing."""
    if name == "rm" and any(_is_recursive(word) for word in _options(words)):
        return _RM
    if name in ("rd", "rmdir", "del", "erase") and any(word.lower() == "/s" for word in words[1:]):
        return _RM
    if name == "format" and any(re.fullmatch("[A-Za-z]:", word) for word in words[1:]):
        return _FORMAT
    if _MAKES_FILE_SYSTEM.fullmatch(name):
        return _FORMAT
    if name == "dd":
        targets = [word[3:] for word in words if word.startswith("of=")]
        return _WRITE if any(_is_device(target) for target in targets) else ""
    if name in ("tee", "cp", "mv", "install", "shred", "truncate", "sponge"):
        operands = words[-1:] if name in ("cp", "mv", "install") else words[1:]
        return _WRITE if any(map(_DISK.match, operands)) else ""
    return ""


def _switches_off(name: str, words: Sequence[str]) -> str:
    operands = [word for word in words[1:] if not word.startswith("-")]
    if name in _SWITCHES_OFF:
        return _OFF
    if name in ("init", "telinit"):
        return _OFF if operands[:1] in (["0"], ["6"]) else ""
    if name in ("systemctl", "loginctl"):
        return _OFF if not _SWITCHING_OFF.isdisjoint(operands[:1]) else ""
    return ""


def _options(words: Sequence[str]) -> Iterator[str]:
    for word in words[1:]:
        if word == "--":
            return
        if word.startswith("-"):
            yield word


def _is_recursive(option: str) -> bool:
    """Whether an option of `rm` means `--recursive`; GNU accepts it in part, and options behind operands."""
    if option.startswith("--"):
        return len(option) > 2 and "--recursive".startswith(option)
    return "r" in option.lower()


def _is_device(path: str) -> bool:
    return path.startswith("/dev/") and not _NO_DISK.match(path)
