"""Readers of mail that know nothing of us: Python's email, Dovecot by IMAP, and nodemailer's mailparser.

Each gives a `Seen` of a mail. A reader that is not installed skips the test with a reason, but never in CI.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import imaplib
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

NODE = Path(__file__).parent / "readers"
DOVECOT_IMAP = Path("/usr/lib/dovecot/imap")


@dataclass(frozen=True)
class Seen:
    """The texts as (kind, decoded), and all other leaves as (type, SHA-256 of the decoded content)."""

    texts: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]


def by_python(raw: bytes) -> Seen:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    texts, others = [], []
    for part in message.walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True) or b""
        assert isinstance(payload, bytes)
        if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
            charset = str(part.get_content_charset("ascii"))
            texts.append((part.get_content_subtype(), payload.decode(charset, "replace")))
        else:
            others.append((part.get_content_type(), hashlib.sha256(payload).hexdigest()))
    return Seen(tuple(texts), tuple(others))


def by_mailparser(paths: Sequence[Path]) -> list[dict[str, object]]:
    """What mailparser sees of each file: text, html, subject, header names, attachments."""
    done = subprocess.run(
        [str(shutil.which("node")), str(NODE / "read.mjs")],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


class Dovecot:
    """A real Dovecot over a Maildir, spoken to by IMAP through a pipe: no port, no login."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mails = folder / "mail"
        for name in ("new", "cur", "tmp"):
            (self.mails / name).mkdir(parents=True)
        user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.config = folder / "dovecot.conf"
        self.config.write_text(
            f"base_dir = {folder}/run\nmail_location = maildir:{self.mails}\nlog_path = {folder}/log\nssl = no\n"
            f"protocols = imap\nfirst_valid_uid = 1\nmail_uid = {user.pw_uid}\nmail_gid = {user.pw_gid}\n"
        )
        self.user = user

    def add(self, name: str, raw: bytes) -> None:
        (self.mails / "new" / f"{name}:2,").write_bytes(raw)

    def seen(self) -> list[Seen]:
        """Every mail, in the order of the names under which they were added."""
        if os.getuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        command = f"USER={self.user.pw_name} HOME={self.folder} CONFIG_FILE={self.config} {DOVECOT_IMAP}"
        if os.getuid() == 0:
            command = f"setpriv --reuid={self.user.pw_uid} --regid={self.user.pw_gid} --clear-groups env {command}"
        client = imaplib.IMAP4_stream(command)
        try:
            client.select("INBOX", readonly=True)
            _, (count,) = client.select("INBOX", readonly=True)
            return [self._seen(client, number) for number in range(1, int(count or 0) + 1)]
        finally:
            client.shutdown()

    def _seen(self, client: imaplib.IMAP4_stream, number: int) -> Seen:
        texts, others = [], []
        for place, kind, charset in _leaves(self._fetch(client, number, "BODYSTRUCTURE")):
            payload = self._fetch(client, number, f"BINARY.PEEK[{place}]")
            if kind.startswith("text/"):
                texts.append((kind.removeprefix("text/"), payload.decode(charset, "replace")))
            else:
                others.append((kind, hashlib.sha256(payload).hexdigest()))
        return Seen(tuple(texts), tuple(others))

    @staticmethod
    def _fetch(client: imaplib.IMAP4_stream, number: int, what: str) -> bytes:
        status, data = client.fetch(str(number), f"({what})")
        assert status == "OK", data
        first = data[0]
        if isinstance(first, tuple):
            return first[1]
        assert isinstance(first, bytes)
        quoted = re.search(rb'BINARY\[[\d.]*\] "((?:[^"\\]|\\.)*)"', first)
        return re.sub(rb"\\(.)", rb"\1", quoted[1]) if quoted else first


def _leaves(structure: bytes) -> list[tuple[str, str, str]]:
    """(section, type, character set) of the leaves in an IMAP BODYSTRUCTURE (RFC 3501 §7.4.2)."""
    tokens = re.findall(rb'\(|\)|"(?:[^"\\]|\\.)*"|[^\s()]+', structure[structure.index(b"BODYSTRUCTURE") + 13 :])
    position = 0

    def parse() -> list[object]:
        nonlocal position
        position += 1  # the opening bracket
        items: list[object] = []
        while tokens[position] != b")":
            if tokens[position] == b"(":
                items.append(parse())
            else:
                items.append(tokens[position].strip(b'"').decode("latin-1"))
                position += 1
        position += 1
        return items

    found: list[tuple[str, str, str]] = []

    def walk(node: list[object], place: str) -> None:
        if isinstance(node[0], list):
            children = [child for child in node if isinstance(child, list)][: _children(node)]
            for number, child in enumerate(children, 1):
                walk(child, f"{place}.{number}" if place else str(number))
            return
        parameters = node[2] if isinstance(node[2], list) else []
        named = {str(parameters[i]).lower(): str(parameters[i + 1]) for i in range(0, len(parameters) - 1, 2)}
        kind = f"{node[0]}/{node[1]}".lower()
        found.append((place or "1", kind, named.get("charset", "us-ascii")))

    walk(parse(), "")
    return found


def _children(node: list[object]) -> int:
    """How many parts stand before a multipart's subtype."""
    return next((number for number, item in enumerate(node) if not isinstance(item, list)), len(node))
