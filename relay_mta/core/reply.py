"""SMTP replies as values, and the texts that peers get from us (RFC 5321 §4.2, RFC 2034, RFC 3463).

The upstream's replies are passed on as they came: code, enhanced code and every text line. Our own *trouble* is only
ever 421, 451 or 452, so that the client keeps the mail; refusals of policy and syntax are 5xx.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?= |$)")  # RFC 3463 §2


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply. `lines` are the texts behind the code, raw bytes without CR, LF or NUL; at least one."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def accepted(self) -> bool:
        """2yz: the command was accepted and carried out."""
        return self.code // 100 == 2

    @property
    def intermediate(self) -> bool:
        """3yz: the upstream waits for more (after DATA)."""
        return self.code // 100 == 3

    @property
    def deferred(self) -> bool:
        """4yz: not now; the client keeps the mail and tries again."""
        return self.code // 100 == 4

    @property
    def refused(self) -> bool:
        """5yz: not ever in this form."""
        return self.code // 100 == 5

    @property
    def enhanced(self) -> str:
        """The RFC 3463 code at the start of the text, or the class's undefined code ("5.0.0")."""
        found = _ENHANCED.match(self.lines[0])
        return found[0].decode() if found else f"{self.code // 100}.0.0"

    @property
    def text(self) -> str:
        """All lines in one, for a person; undecodable bytes shown escaped."""
        return " ".join(line.decode("utf-8", "backslashreplace") for line in self.lines)

    def wire(self) -> bytes:
        """The reply as RFC 5321 §4.2.1 writes it, CRLF at the end of every line."""
        code = b"%d" % self.code
        return b"".join(
            code + (b" " if i == len(self.lines) - 1 else b"-") + line + b"\r\n" for i, line in enumerate(self.lines)
        )


def reply(code: int, text: str) -> Reply:
    """A one-line reply of our own; `text` is ASCII and starts with its enhanced code where the class has one."""
    return Reply(code, (text.encode("ascii"),))


# What peers get from us. None of these quotes an exception, an address or a rule.
START_DATA = reply(354, "End data with <CR><LF>.<CR><LF>")
TROUBLE = reply(451, "4.3.0 Temporary trouble here, please try again later")
UPSTREAM_AWAY = reply(451, "4.4.1 The outbound server cannot be reached, please try again later")
UPSTREAM_LOST = reply(451, "4.4.2 The outbound server's connection was lost, please try again later")
UPSTREAM_BUSY = reply(451, "4.4.5 The outbound server's connections are all in use, please try again later")
LOGIN_FAILED = reply(451, "4.7.0 The outbound server does not let this relay in at present, please try again later")
# RFC 4954 §6: AUTH has a temporary failure of its own, behind which no client asks for another password.
AUTH_TROUBLE = reply(454, "4.7.0 Temporary authentication failure, please try again later")
AUTH_OK = reply(235, "2.7.0 Authentication successful")
AUTH_REFUSED = reply(535, "5.7.8 Authentication credentials invalid")
AUTH_REQUIRED = reply(530, "5.7.0 Authentication required")
NOT_ALLOWED = reply(554, "5.7.1 You are not allowed to send through this server")
NOT_A_SENDER = reply(550, "5.7.1 This sender is not allowed to send through this server")
NOT_PROVEN = reply(550, "5.7.1 The mail does not prove that it comes from a company that may send through this server")
LACKING = reply(451, "4.5.4 The outbound server does not offer this at present, please start again with EHLO")
BUSY = reply(451, "4.3.0 The same mail is being delivered, please try again later")
NO_MEMORY = reply(452, "4.3.1 Too much mail in hand, please try again later")
LOOP = reply(554, "5.4.6 Too many hops: the mail is in a loop")
