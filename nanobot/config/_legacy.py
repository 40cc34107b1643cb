"""Keys that older versions wrote elsewhere move to where they live now."""

from __future__ import annotations

from typing import Any

__all__ = ["migrated"]

# (section, old key) → (section, new key); every section is named by its path.
_MOVES: tuple[tuple[tuple[str, ...], str, tuple[str, ...], str], ...] = (
    (("tools", "exec"), "restrictToWorkspace", ("tools",), "restrictToWorkspace"),
    (("tools",), "myEnabled", ("tools", "my"), "enable"),
    (("tools",), "mySet", ("tools", "my"), "allowSet"),
    (
        ("agents", "defaults"),
        "sessionTtlMinutes",
        ("agents", "defaults"),
        "idleCompactAfterMinutes",
    ),
)


def migrated(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree with old keys moved; a key that stands in its new place already wins over the old one."""
    for old_section, old_key, new_section, new_key in _MOVES:
        tree = _moved(tree, old_section, old_key, new_section, new_key)
    return tree


def _moved(
    tree: dict[str, Any],
    old_section: tuple[str, ...],
    old_key: str,
    new_section: tuple[str, ...],
    new_key: str,
) -> dict[str, Any]:
    found = _section(tree, old_section)
    spelling = next((key for key in (old_key, _snake(old_key)) if key in (found or ())), None)
    target = _section(tree, new_section)
    if found is None or spelling is None or target is None:
        return tree
    tree = _replaced(tree, old_section, {k: v for k, v in found.items() if k != spelling})
    if new_key in target or _snake(new_key) in target:
        return tree
    target = _section(tree, new_section) or {}
    return _replaced(tree, new_section, {**target, new_key: found[spelling]})


def _section(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    """The object at this path; {} where there is none yet, None where something else stands in the way."""
    current: Any = tree
    for key in path:
        current = current.get(key, {})
        if not isinstance(current, dict):
            return None
    return current  # type: ignore[no-any-return]  # the loop lets only objects through


def _replaced(
    tree: dict[str, Any], path: tuple[str, ...], section: dict[str, Any]
) -> dict[str, Any]:
    if not path:
        return section
    return {**tree, path[0]: _replaced(tree.get(path[0], {}), path[1:], section)}


def _snake(key: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in key)
