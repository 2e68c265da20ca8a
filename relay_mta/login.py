"""The relay's own login at a company's upstream: fulfils `core.ports.Login`.

The secret is read, and the token fetched, for each new session, so that one that was changed is taken at once. The
mechanism is the configured one, or the best that the upstream offers.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

from relay_mta.core import sasl
from relay_mta.core.errors import LoginError, RelayError
from relay_mta.core.lockout import Lockout
from relay_mta.core.loginadvice import advice
from relay_mta.core.ports import Tokens
from relay_mta.core.reply import Reply
from relay_mta.core.sasl import Credentials, Mechanism
from relay_mta.secretsource import SecretSource

# Over TLS, which the configuration sees to, PLAIN gives nothing away and keeps no clear password on the server.
_BEST: tuple[Mechanism, ...] = ("PLAIN", "LOGIN", "CRAM-MD5")


class PasswordLogin:
    """A user and a password; `mechanism` None: the best that is offered.

    A password that is refused three times is not shown again for a while (`core.lockout`): every mail would else be a
    refused login more, until the upstream shuts out the relay's address. Another password is tried at once.
    """

    def __init__(self, user: str, password: SecretSource, mechanism: Mechanism | None = None) -> None:
        self._user = user
        self._password = password
        self._mechanism = mechanism
        self._lockout = Lockout()
        self._shown = b""  # a hash of the password that was read last

    async def credentials(self, offered: str) -> Credentials:
        """As the port says."""
        names = offered.upper().split()
        mechanism = self._mechanism or next((each for each in _BEST if each in names), None)
        if mechanism is None or mechanism not in names:
            wanted = self._mechanism or ", ".join(_BEST)
            raise LoginError(f"our login at the upstream: it does not offer {wanted} (at least not over this port)")
        try:
            password = await asyncio.to_thread(self._password.read)
        except RelayError as error:
            raise LoginError(f"our login at the upstream: {error}") from None
        self._shown = hashlib.sha256(password).digest()
        left = self._lockout.left(self._shown, time.monotonic())
        if left:
            said = "the password was refused again and again; correct it, or it is not tried for"
            raise LoginError(f"our login at the upstream: {said} {left:.0f} s")
        if mechanism == "PLAIN":
            return sasl.plain(self._user, password)
        return Credentials(mechanism, self._user, password, initial=False)

    def answered(self, answer: Reply) -> str:
        """As the port says."""
        if answer.accepted:
            self._lockout.accepted(self._shown)
        elif answer.refused:
            self._lockout.refused(self._shown, time.monotonic())
        return f"our login at the upstream: {advice(answer.code, answer.enhanced, answer.text)}"


class TokenLogin:
    """A user and OAuth tokens for it (XOAUTH2)."""

    def __init__(self, user: str, tokens: Tokens) -> None:
        self._user = user
        self._tokens = tokens

    async def credentials(self, offered: str) -> Credentials:
        """As the port says."""
        if "XOAUTH2" not in offered.upper().split():
            raise LoginError("our login at the upstream: it does not offer XOAUTH2 (at least not over this port)")
        return sasl.xoauth2(self._user, await self._tokens.token())

    def answered(self, answer: Reply) -> str:
        """As the port says."""
        if not answer.accepted:
            self._tokens.refused()
        return f"our login at the upstream: {advice(answer.code, answer.enhanced, answer.text)}"
