"""What an SMTP client said about a mail before its DATA, verbatim (RFC 5321 §2.3.1).

All strings are the bytes of the wire decoded as UTF-8 with `surrogateescape`, so that encoding them the same way gives
the client's bytes back: an address is never re-parsed into another form on its way through.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """The peer of one session: `address` is its IP address; `helo` what it called itself; `authenticated`: it has
    logged in; `listener`: where it connected, as in the configuration."""

    address: str
    port: int = 0
    helo: str = ""
    esmtp: bool = True
    tls: bool = False
    authenticated: bool = False
    listener: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT: `forward_path` is what stood between the angle brackets, `params` the ESMTP parameters behind it."""

    forward_path: str
    params: tuple[str, ...] = ()

    def param(self, keyword: str) -> str | None:
        """The value of an ESMTP parameter by its case-insensitive keyword; None if absent, "" if it has no value."""
        return _param(self.params, keyword)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One MAIL with the RCPTs that the upstream accepted, in order. `reverse_path` "" is the null reverse-path."""

    reverse_path: str
    recipients: tuple[Recipient, ...]
    params: tuple[str, ...] = ()

    def param(self, keyword: str) -> str | None:
        """As `Recipient.param`, of the MAIL command."""
        return _param(self.params, keyword)


def _param(params: tuple[str, ...], keyword: str) -> str | None:
    for param in params:
        name, _, value = param.partition("=")
        if name.upper() == keyword:
            return value
    return None
