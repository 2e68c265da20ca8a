"""Keyed hashes under which the ledger and the log know a mail, a copy and a candidate without knowing who they are.

Every key is HMAC-SHA256 (RFC 2104) under the installation's secret, so that nobody without the secret can test a
guessed address against a ledger or a log. Each kind of key has a label of its own, and every field goes in behind its
length: no two different inputs, of the same kind or of two kinds, share a hashed text.

Promised: deterministic, injective framing for every `str` (lone surrogates of undecodable bytes included) and `bytes`.
Not promised: that two spellings of one address agree; the callers pass `address.same_path` of it. Changing a label or
the framing orphans every stored entry: the vectors in tests/core/test_keys.py hold both.
"""

from __future__ import annotations

import hmac

MIN_SECRET = 32
"""Bytes; an HMAC key shorter than its hash's output weakens it (RFC 2104 §3)."""

PSEUDONYM_LENGTH = 16
"""Hex digits, 64 bits: short enough for a log line, long enough that two addresses of one log never meet."""


def copy_key(secret: bytes, company: str, reverse_path: str, forward_path_key: str, body_digest: bytes) -> str:
    """One mail to one candidate, whatever its other recipients: what makes a hold idempotent. 64 hex digits.

    `body_digest` is `Message.body_digest()`, so that a retry under new trace fields has the same key.
    """
    return _key(secret, "copy", company, reverse_path, forward_path_key, body_digest)


def candidate_key(secret: bytes, company: str, address_key: str) -> str:
    """One candidate at one company, whatever the mail: what is counted once. 64 hex digits."""
    return _key(secret, "candidate", company, address_key)


def mail_key(secret: bytes, company: str, reverse_path: str, body_digest: bytes) -> str:
    """One mail, whoever its recipients: what its delivery record is found by. 64 hex digits."""
    return _key(secret, "mail", company, reverse_path, body_digest)


def login_key(secret: bytes, company: str, login: str, proof: bytes) -> bytes:
    """One login with one password or token: what refusals are counted by. 32 bytes."""
    return bytes.fromhex(_key(secret, "login", company, login, proof))


def loop_mark(secret: bytes, company: str) -> str:
    """What this installation marks a company's mails with, so that it knows them again. `PSEUDONYM_LENGTH` digits."""
    return _key(secret, "loop", company)[:PSEUDONYM_LENGTH]


def pseudonym(secret: bytes, text: str) -> str:
    """What a log line says instead of an address: `PSEUDONYM_LENGTH` hex digits."""
    return _key(secret, "pseudonym", text)[:PSEUDONYM_LENGTH]


def _key(secret: bytes, label: str, *fields: str | bytes) -> str:
    if len(secret) < MIN_SECRET:
        raise ValueError(f"the secret must have at least {MIN_SECRET} bytes")
    framed = bytearray()
    for field in (f"relay-mta {label} 1", *fields):
        # Injective on all strings, unlike surrogateescape, which maps "é" and its two escaped bytes to one.
        data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
        framed += len(data).to_bytes(8, "big")
        framed += data
    return hmac.digest(secret, framed, "sha256").hex()
