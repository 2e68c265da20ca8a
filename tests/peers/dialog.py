"""A mail's transaction, command by command, with every reply kept: to a server directly or through the relay."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from dataclasses import dataclass

LOST = 0  # the code of a reply that never came


@dataclass(frozen=True)
class Answer:
    """What was said to a command. `stage`: CONNECT, EHLO, MAIL, RCPT, DATA, "." or QUIT."""

    stage: str
    code: int
    text: bytes = b""

    @property
    def accepted(self) -> bool:
        """Whether the client may go on."""
        return 200 <= self.code < 400


class Dialog:
    """One client's session. `client`: the loopback address that it comes from."""

    def __init__(self, port: int, client: str = "127.0.0.1", *, host: str = "127.0.0.1", seconds: float = 30.0) -> None:
        self._smtp = smtplib.SMTP(timeout=seconds, local_hostname="client.example", source_address=(client, 0))
        self.greeting = self._answer("CONNECT", lambda: self._smtp.connect(host, port))
        self.extensions: dict[str, str] = {}

    def hello(self) -> Answer:
        """EHLO, or HELO where that is refused."""
        if not self.greeting.accepted:
            return self.greeting
        answer = self._answer("EHLO", self._smtp.ehlo)
        if answer.code not in (LOST, 421) and not answer.accepted:
            answer = self._answer("EHLO", self._smtp.helo)
        self.extensions = dict(self._smtp.esmtp_features)
        return answer

    def command(self, line: str) -> Answer:
        """One command."""
        return self._answer(line.partition(" ")[0], lambda: self._smtp.docmd(line))

    def mail(
        self, raw: bytes, recipients: Sequence[str], *, sender: str = "saiyo@acme.example.jp", params: str = ""
    ) -> Answer:
        """One transaction, to its end or to the first answer that is no yes, a recipient's as well."""
        answer = self.command(f"MAIL FROM:<{sender}> {params}".rstrip())
        for recipient in recipients:
            if answer.accepted:
                answer = self.command(f"RCPT TO:<{recipient}>")
        if answer.accepted:
            answer = self.command("DATA")
        if not answer.accepted:
            return answer
        return self._answer(".", lambda: self._send(raw))

    def quit(self) -> Answer:
        """QUIT, and the end."""
        answer = self.command("QUIT")
        self._smtp.close()
        return answer

    def _send(self, raw: bytes) -> tuple[int, bytes]:
        assert raw.endswith(b"\r\n")
        stuffed = raw.replace(b"\r\n.", b"\r\n..")
        self._smtp.send((b"." if raw.startswith(b".") else b"") + stuffed + b".\r\n")
        return self._smtp.getreply()

    def _answer(self, stage: str, act: object) -> Answer:
        assert callable(act)
        try:
            return Answer(stage, *act())
        except (smtplib.SMTPServerDisconnected, ConnectionError, TimeoutError):
            return Answer(stage, LOST)


def tell(port: int, raw: bytes, recipients: Sequence[str], *, client: str = "127.0.0.1", params: str = "") -> Answer:
    """One mail in a session of its own: the answer that decided about it."""
    dialog = Dialog(port, client)
    answer = dialog.hello()
    if answer.accepted:
        answer = dialog.mail(raw, recipients, params=params)
    dialog.quit()
    return answer
