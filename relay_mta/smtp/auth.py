"""The server's side of AUTH (RFC 4954): from the command's argument to credentials, or to what is wrong with them.

LOGIN is asked for by us, so that its login is known before anybody else is asked; PLAIN, XOAUTH2 and OAUTHBEARER are
one response each, on the AUTH line or behind a challenge without text. Whether the credentials are any good is the
conversation's to find out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from relay_mta.core import sasl
from relay_mta.core.reply import Reply
from relay_mta.core.sasl import Credentials, Mechanism
from relay_mta.smtp.answers import (
    AUTH_CANCELLED,
    AUTH_MALFORMED,
    AUTH_NOT_BASE64,
    AUTH_TOO_LONG,
    BAD_ARGUMENT,
    UNKNOWN_MECHANISM,
)

Ask = Callable[[bytes], Awaitable[bytes | None]]
"""Sends a challenge (already base64) and returns the client's line without its line end; None if the client is gone."""

_USERNAME, _PASSWORD = b"VXNlcm5hbWU6", b"UGFzc3dvcmQ6"  # "Username:" and "Password:", which clients look for


async def exchange(argument: str, offered: Sequence[str], ask: Ask) -> Credentials | Reply | None:
    """Credentials, or the reply to what cannot become any, or None if the client left in between."""
    name, _, rest = argument.partition(" ")
    words = rest.split()
    if not name or len(words) > 1:
        return BAD_ARGUMENT
    # RFC 4422 §3.1: upper case; .NET's client and others write "auth plain", and no server minds.
    mechanism: Mechanism | None = next((each for each in sasl.CARRIED if each == name.upper()), None)
    if not name.isascii() or mechanism is None or mechanism not in offered:
        return UNKNOWN_MECHANISM
    first = words[0].encode("utf-8", "surrogateescape") if words else None
    if mechanism == "LOGIN":
        return await _login(first, ask)
    response = await _response(b"", ask, first)
    if not isinstance(response, bytes):
        return response
    return sasl.read(mechanism, response, initial=first is not None) or AUTH_MALFORMED


async def _login(first: bytes | None, ask: Ask) -> Credentials | Reply | None:
    login = await _response(_USERNAME, ask, first)
    if not isinstance(login, bytes):
        return login
    password = await _response(_PASSWORD, ask)
    if not isinstance(password, bytes):
        return password
    if not login or not password:
        return AUTH_MALFORMED
    return Credentials("LOGIN", login.decode("utf-8", "surrogateescape"), password, initial=False)


async def _response(challenge: bytes, ask: Ask, given: bytes | None = None) -> bytes | Reply | None:
    """One response, decoded."""
    line = await ask(challenge) if given is None else given
    if line is None:
        return None
    if line == b"*" and given is None:
        return AUTH_CANCELLED
    if len(line) + 2 > sasl.MAX_RESPONSE:
        return AUTH_TOO_LONG
    response = sasl.decoded(line)
    return AUTH_NOT_BASE64 if response is None else response
