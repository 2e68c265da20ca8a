"""Plain TOML looked into with care: it may hold anything, and what is wrong in itself is somebody else's to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def tables(data: Mapping[str, Any], key: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The tables in a list of them, with their places; whatever else stands there is passed over."""
    value = data.get(key)
    items = value if isinstance(value, list) else []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, Mapping)]


def table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table at a key, or an empty one."""
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def items(data: Mapping[str, Any], key: str) -> list[Any]:
    """The list at a key, or an empty one."""
    value = data.get(key)
    return value if isinstance(value, list) else []


def attempt(reader: Callable[[Any], Any], value: Any) -> Any:
    """What a reader of `values` makes of a value, or None if it refuses it."""
    try:
        return reader(value)
    except ValueError:
        return None
