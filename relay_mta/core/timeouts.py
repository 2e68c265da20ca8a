"""How long an upstream may take, stage by stage (RFC 5321 §4.5.3.2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, by stage. The defaults are the least that RFC 5321 §4.5.3.2 allows a client, but for the first."""

    connect: float = 30.0
    """For TCP, the TLS handshake and the greeting, each. The RFC gives 5 minutes to the greeting; our client waits for
    its MAIL all this time, and 451 early is worth more to it than a greeting late."""
    mail: float = 300.0
    """§4.5.3.2.2."""
    rcpt: float = 300.0
    """§4.5.3.2.3."""
    data_start: float = 120.0
    """§4.5.3.2.4: the reply to DATA."""
    data_block: float = 180.0
    """§4.5.3.2.5: the upstream takes nothing at all of what is to be sent."""
    data_end: float = 600.0
    """§4.5.3.2.6: the reply to the final dot. Shorter ones deliver mail twice."""
    other: float = 300.0
    """EHLO, RSET, NOOP …: the RFC names none."""
    quit: float = 5.0
    """Courtesy; nothing depends on it."""

    def of(self, verb: bytes) -> float:
        """The time for a command's reply, by its verb in upper case."""
        return {b"MAIL": self.mail, b"RCPT": self.rcpt, b"DATA": self.data_start, b"QUIT": self.quit}.get(
            verb, self.other
        )
