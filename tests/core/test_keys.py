"""The keyed hashes: fixed vectors (a stored ledger depends on them), separation, framing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core import keys

SECRET = bytes(range(32))
ANY_TEXT = st.text(st.characters(), max_size=8)  # lone surrogates included: bytes that were no UTF-8


COPY = "5dc0e0bf359f98a2a14ce08825401d1a5a7bdf4ca08e1b80f8990488b350172c"
CANDIDATE = "551526c8c9306f4997fddb4c6e5055322fcb233d8e379cb58b7a2a0181fa71b5"
MAIL = "830c0c7a5dac8e83e5f8767fe02a5b8f27000929f3c9da8992b6c55fdc7c3b39"
PSEUDONYM = "578c1aaee1bfcfc8"


def test_vectors() -> None:
    """Whoever changes these orphans every entry that is stored under them. Computed apart, with hmac and hashlib."""
    digest = b"\x01" * 32
    assert keys.copy_key(SECRET, "acme", "hr@acme.example", "taro@example.org", digest) == COPY
    assert keys.candidate_key(SECRET, "acme", "taro@example.org") == CANDIDATE
    assert keys.mail_key(SECRET, "acme", "hr@acme.example", digest) == MAIL
    assert keys.pseudonym(SECRET, "taro@example.org") == PSEUDONYM


def test_shape() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", keys.candidate_key(SECRET, "acme", "株@例え.jp"))
    assert re.fullmatch(rf"[0-9a-f]{{{keys.PSEUDONYM_LENGTH}}}", keys.pseudonym(SECRET, "a"))


def test_kinds_are_separated() -> None:
    text = "taro@example.org"
    assert keys.candidate_key(SECRET, "", text)[: keys.PSEUDONYM_LENGTH] != keys.pseudonym(SECRET, text)
    assert keys.mail_key(SECRET, "a", "b", b"c") != keys.candidate_key(SECRET, "a", "bc")


def test_the_secret_decides() -> None:
    assert keys.pseudonym(SECRET, "a") != keys.pseudonym(bytes(32), "a")


@pytest.mark.parametrize("secret", [b"", b"x" * 31])
def test_a_short_secret_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        keys.pseudonym(secret, "a")


def test_undecodable_bytes_and_their_utf8_differ() -> None:
    escaped = "é".encode().decode("ascii", "surrogateescape")
    assert keys.candidate_key(SECRET, "acme", escaped) != keys.candidate_key(SECRET, "acme", "é")


Fields = tuple[str, str, str, bytes]
FIELDS = st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT, st.binary(max_size=8))


@given(FIELDS, FIELDS)
def test_no_two_inputs_share_a_key(one: Fields, other: Fields) -> None:
    assert (keys.copy_key(SECRET, *one) == keys.copy_key(SECRET, *other)) == (one == other)


@given(ANY_TEXT, st.integers(0, 16), st.integers(0, 16))
def test_moving_the_border_between_fields_changes_the_key(text: str, first: int, second: int) -> None:
    one = keys.candidate_key(SECRET, text[:first], text[first:])
    other = keys.candidate_key(SECRET, text[:second], text[second:])
    assert (one == other) == (text[:first] == text[:second])
