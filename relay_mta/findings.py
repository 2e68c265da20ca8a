"""What a configuration's models found, in words: the key with its line, what is wrong, what was expected.

Elements of lists are counted from 1 in what a person reads: `company[2]` is the second company.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from relay_mta.core.errors import Problem
from relay_mta.schema import ConfigModel
from relay_mta.tomllines import KeyPath, key_lines, nearest_line
from relay_mta.values import shown


def problems(source: Path, text: str, found: list[tuple[KeyPath, str]]) -> Iterator[Problem]:
    """What was found at keys of a configuration's `text`, as problems of the file `source`, in its order."""
    lines = key_lines(text)
    placed = [(nearest_line(lines, path), path, what) for path, what in found]
    placed.sort(key=lambda each: each[0] or 0)
    for line, path, what in placed:
        yield Problem(str(source), what, line, key=_key_text(path))


def _key_text(path: KeyPath) -> str:
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step + 1}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", step)
            text += ("." if text else "") + (step if bare else shown(step))
    return text


_WRONG = {
    "string_type": "is not a string",
    "int_type": "is not a whole number",
    "bool_type": "is not true or false",
    "list_type": "is not a list",
    "date_type": "is not a date",
    "model_type": "is not a table",
    "literal_error": "is none of them",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
}


def finding(details: ErrorDetails) -> tuple[KeyPath, str]:
    """One pydantic error as the key's path, what is wrong and what was expected."""
    path, kind = details["loc"], details["type"]
    if kind == "extra_forbidden":
        return path, _unknown_key(path)
    if kind == "missing":
        wrong = "is missing"
    elif kind == "value_error":
        wrong = str(details["ctx"]["error"])
    elif kind == "too_short":
        wrong = "is empty"
    else:
        wrong = f"{shown(details['input'])} {_WRONG.get(kind, 'is not valid')}"
    field = _field(path)
    return path, f"{wrong}; expected {field.description}" if field is not None else wrong


def _unknown_key(path: KeyPath) -> str:
    """Says what may have been meant: a key of this table, or one that slipped below a table's header."""
    key = str(path[-1])
    known = _keys(_model(path[:-1]))
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f'is an unknown key; did you mean "{close[0]}"?'
    if len(path) > 1 and key in _keys(ConfigModel):
        return "is an unknown key here; it belongs at the top of the file, above the first [table]"
    return f"is an unknown key; expected one of {', '.join(known)}"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model(path: KeyPath) -> type[BaseModel]:
    """The model of the table at a path."""
    model: type[BaseModel] = ConfigModel
    for step in path:
        if isinstance(step, str):
            model = _inner(_fields(model)[step].annotation) or model
    return model


def _field(path: KeyPath) -> FieldInfo | None:
    names = [step for step in path if isinstance(step, str)]
    if not names:
        return None
    return _fields(_model(tuple(names[:-1]))).get(names[-1])


def _fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation: `Model`, or `list[Model]`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
