"""Fuzzes the index of a mail (atheris): no bytes raise, and every span lies where it should.

python tests/fuzz/target_index.py -max_total_time=10 CORPUS
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["relay_mta.core"]):
    from relay_mta.core.message import index


def one(raw: bytes) -> None:
    mail = index(raw)
    for part in mail.parts:
        assert 0 <= part.start <= part.body_start <= part.body_end <= len(raw)
        if part.parent is not None:
            around = mail.parts[part.parent]
            assert around.body_start <= part.start and part.body_end <= around.body_end
        end = part.start
        for field in part.fields:
            assert field.start == end < field.end <= part.body_start
            end = field.end
    for text in mail.texts:
        layout = text.layout
        assert 0 <= layout.below <= layout.end <= len(text.text)
        assert all(0 <= start <= end <= len(text.text) for start, end in layout.history)
    assert mail.text_trouble is None or mail.text_trouble.isprintable()
    assert all(value.isprintable() or "\ufffd" in value or not value.isascii() for value in mail.values("subject"))
    mail.body_digest()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
