"""The bounds of a listener: what one client may make us hold, wait for or put up with, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times are seconds, sizes bytes."""

    command: float = 300.0
    """For one whole command line, however slowly it trickles in. RFC 5321 §4.5.3.2.7: at least 5 minutes."""
    handshake: float = 60.0
    """For a TLS handshake."""
    write: float = 300.0
    """For a client to take its replies."""
    data_idle: float = 180.0
    """Between two arrivals of mail data. RFC 5321 §4.5.3.2.5: 3 minutes."""
    data_grace: float = 300.0
    """Before `data_rate` is asked for, so that a slow link that stumbles is not cut off."""
    data_rate: int = 256
    """Bytes per second that a mail must come in at from then on: slower is no mail client, and it holds memory."""
    line: int = 4096
    """One command line. RFC 5321 §4.5.3.1.4 gives 512; DSN and SMTPUTF8 parameters (RFC 3461 §5.4) need more."""
    bad_commands: int = 20
    """Unknown, malformed or misplaced commands in a row of transactions that delivered nothing."""
    commands: int = 5000
    """Commands between two mails that were accepted: more is no mail client, and costs an upstream's patience too."""
    recipients: int = 1000
    """RCPT commands of one mail. RFC 5321 §4.5.3.1.8 asks for 100 at least; what is over gets 452 (§4.5.3.1.10)."""
    auth_failures: int = 3
    """Refused logins in one session: a person mistypes, a guesser goes on."""
    auth_pause: float = 1.0
    """Before the reply to the second refused login of a session; twice as long before the next …"""
    auth_longest: float = 30.0
    """… up to this: a client that has left keeps its place for so long."""
    reserve: int = 64 * 1024
    """Taken from the memory budget at DATA when the client declared no SIZE."""
