"""SASL by SMTP AUTH (RFC 4954): what a client says to prove who it is, and what is said to an upstream.

Nothing here decides whether somebody may in. A client's responses are kept as the bytes they were, so that they reach
an upstream unchanged; only the login is read out of them, since it names the company and is what is counted by.

RFCs: 4616 (PLAIN); 7628 (OAUTHBEARER); 2195 (CRAM-MD5); LOGIN and XOAUTH2 have none, and are what everybody does.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay_mta.core.reply import Reply

Mechanism = Literal["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "CRAM-MD5"]

CARRIED: tuple[Mechanism, ...] = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")
"""What a client may use with an upstream of its own: the mechanisms whose responses do not depend on a challenge."""
PASSWORDS: tuple[Mechanism, ...] = ("PLAIN", "LOGIN")
"""What a client may use with a password that we know the hash of."""

MAX_RESPONSE = 12288
"""Octets of a base64 response with its CRLF (RFC 4954 §4)."""
MAX_COMMAND = 512
"""Octets of a command line with its CRLF (RFC 5321 §4.5.3.1.4), which AUTH with an initial response is, too."""

_GS2_LOGIN = re.compile(rb"\A[ny],a=([^,\x01]+),\x01")
_USER = re.compile(rb"(?:\A|\x01)user=([^\x01]*)\x01")
_BEARER = re.compile(rb"\x01auth=(Bearer [^\x01]+)\x01", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login and its proof. `secret`: a password or an OAuth token; `response`: the client's response, decoded, where
    it is a single one (not LOGIN, not CRAM-MD5); `initial`: it stood on the AUTH line itself, and may again.

    `acts_for`: somebody else whom a PLAIN login wants to be (its authorization identity, RFC 4616 §2), or "". Neither
    `secret` nor `response` stands in the repr.
    """

    mechanism: Mechanism
    login: str
    secret: bytes = field(repr=False)
    response: bytes = field(default=b"", repr=False)
    initial: bool = True
    acts_for: str = ""


def decoded(line: bytes) -> bytes | None:
    """A base64 response as bytes; None if it is none (RFC 4954 §4). "=" is the empty one."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None


def encoded(response: bytes) -> bytes:
    """A response as base64."""
    return base64.b64encode(response)


def read(mechanism: Mechanism, response: bytes, *, initial: bool) -> Credentials | None:
    """The credentials in a single response of PLAIN, XOAUTH2 or OAUTHBEARER; None if it is malformed."""
    if mechanism == "PLAIN":
        pieces = response.split(b"\0")
        if len(pieces) != 3 or not pieces[1] or not pieces[2]:
            return None
        login, secret = pieces[1], pieces[2]
        other = pieces[0].decode("utf-8", "surrogateescape") if pieces[0] != login else ""
        return Credentials(mechanism, login.decode("utf-8", "surrogateescape"), secret, response, initial, other)
    else:
        named = (_GS2_LOGIN if mechanism == "OAUTHBEARER" else _USER).search(response)
        token = _BEARER.search(response)
        if named is None or not named[1] or token is None:
            return None
        login, secret = named[1], token[1]
        if mechanism == "OAUTHBEARER":  # RFC 5801 §4: what a comma and an equals sign become in a GS2 header
            login = login.replace(b"=2C", b",").replace(b"=3D", b"=")
    return Credentials(mechanism, login.decode("utf-8", "surrogateescape"), secret, response, initial)


def plain(login: str, password: bytes) -> Credentials:
    """PLAIN with an empty authorization identity (RFC 4616 §2)."""
    name = login.encode("utf-8", "surrogateescape")
    return Credentials("PLAIN", login, password, b"\0" + name + b"\0" + password)


def xoauth2(login: str, token: str) -> Credentials:
    """XOAUTH2 as Google and Microsoft take it."""
    bearer = b"Bearer " + token.encode("ascii", "replace")
    return Credentials("XOAUTH2", login, bearer, b"user=%s\x01auth=%s\x01\x01" % (login.encode(), bearer))


def dialog(credentials: Credentials) -> Generator[bytes, Reply, Reply]:
    """AUTH as a client of an upstream: yields the lines to send, takes the replies, returns the last one.

    That may still be a 334 for XOAUTH2 and OAUTHBEARER: the upstream's reasons for a refusal, which wants one response
    more (RFC 7628 §3.2.3) before the refusal itself comes.
    """
    mechanism = credentials.mechanism.encode()
    responses: Sequence[bytes]
    if credentials.mechanism == "CRAM-MD5":
        return (yield from _cram_md5(credentials))
    if credentials.mechanism == "LOGIN":
        responses = (credentials.login.encode("utf-8", "surrogateescape"), credentials.secret)
    else:
        responses = (credentials.response,)
    # RFC 4954 §4: an initial response of no octets is "="; one that makes the line too long has to wait for its 334.
    line = b"AUTH " + mechanism + b" " + (encoded(responses[0]) or b"=")
    if credentials.initial and len(responses) == 1 and len(line) + 2 <= MAX_COMMAND:
        answer = yield line
        # A 334 without text asks for what was said already; one with text has the reasons for a refused token.
        if answer.code != 334 or (credentials.mechanism != "PLAIN" and answer.lines[0].strip()):
            return answer
    else:
        answer = yield b"AUTH " + mechanism
    for response in responses:
        if answer.code != 334:
            return answer
        answer = yield encoded(response)
    return answer


def _cram_md5(credentials: Credentials) -> Generator[bytes, Reply, Reply]:
    answer = yield b"AUTH CRAM-MD5"
    if answer.code != 334:
        return answer
    challenge = decoded(answer.lines[0])
    if challenge is None:
        return (yield b"*")
    # RFC 2195 §2: the digest is MD5 by definition; what it protects is protected by TLS.
    digest = hmac.new(credentials.secret, challenge, "md5").hexdigest()
    return (yield encoded(credentials.login.encode() + b" " + digest.encode()))
