"""Edits of a mail as spans of its bytes: what is not edited is sent as the very bytes that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace raw[start:end] by `new`. start == end inserts, an empty `new` deletes."""

    start: int
    end: int
    new: bytes


def apply(raw: bytes, edits: Sequence[Edit]) -> tuple[bytes | memoryview, ...]:
    """The edited mail as chunks; untouched stretches are views of `raw`, nothing of it is copied.

    Edits may come in any order and may touch. What is inserted at one offset keeps the given order, and stands before
    what replaces the bytes from that offset on. Raises `ValueError` if edits overlap or lie outside of `raw`.
    """
    view = memoryview(raw)
    chunks: list[bytes | memoryview] = []
    position = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if not position <= edit.start <= edit.end <= len(raw):
            raise ValueError("edits overlap or lie outside of the mail")
        if position < edit.start:
            chunks.append(view[position : edit.start])
        if edit.new:
            chunks.append(edit.new)
        position = edit.end
    if position < len(raw):
        chunks.append(view[position:])
    return tuple(chunks)
