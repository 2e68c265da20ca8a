"""What proves that a mail from a network of strangers is a company's: its secret, its author, and its reverse-path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core.message import index
from relay_mta.core.tenancy import Proof, proven

DOMAINS = ("acme.example.jp",)
PROOF = Proof("x-acme-relay", b"s3cret")
OWN = st.sampled_from([b"hr@acme.example.jp", b"HR <hr@Sub.Acme.Example.JP>", b'"a, b" <x@acme.example.jp>'])
FOREIGN = st.sampled_from(
    [b"m@evil.example", b"hr@acme.example.jp.evil.example", b'"hr@acme.example.jp" <m@e.example>']
)
VALUES = st.lists(st.sampled_from([b"s3cret", b" s3cret\t", b"S3CRET", b"", b"s3cre", b"s3crett", b"\xff"]), max_size=3)
PATHS = st.sampled_from(["hr@acme.example.jp", "hr@SUB.acme.example.jp.", "", "m@evil.example", "acme.example.jp"])


def raw(authors: list[bytes], values: list[bytes]) -> bytes:
    fields = [b"From: " + each for each in authors] + [b"X-ACME-relay: " + each for each in values]
    return b"\r\n".join([*fields, b"Subject: x", b"", b"text", b""])


@given(st.lists(OWN | FOREIGN, max_size=2), VALUES, PATHS)
def test_proven_is_secret_and_author_and_path(authors: list[bytes], values: list[bytes], path: str) -> None:
    secret = any(value.strip() == b"s3cret" for value in values)
    author = len(authors) == 1 and b"evil" not in authors[0] and b"m@" not in authors[0]
    own_path = path in ("hr@acme.example.jp", "hr@SUB.acme.example.jp.", "")
    assert proven(index(raw(authors, values)), path, DOMAINS, PROOF) == (secret and author and own_path)


@given(st.binary(max_size=300), PATHS)
def test_nothing_is_proven_by_chance(noise: bytes, path: str) -> None:
    mail = noise.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n\r\n"
    assert not proven(index(mail), path, DOMAINS, PROOF)


def test_the_secret_stands_in_no_repr() -> None:
    assert "s3cret" not in repr(PROOF)
