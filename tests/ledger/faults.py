"""Disks that fail, on command."""

from __future__ import annotations

import os
from typing import Any

import pytest


def failing(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.name` raises this errno from now on, until the patch is undone."""

    def fail(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)
