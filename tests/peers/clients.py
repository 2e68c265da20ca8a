"""Real mail clients, each as a function that sends one finished mail, or fails with the client's own words.

All verify the server's certificate, and log in where a user is given. s-nail writes its mails itself: `raw` has to be
one that it could have written, and it keeps the fields From, To and Subject and the text.
"""

from __future__ import annotations

import base64
import email
import email.policy
import json
import os
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

from tests.peers.server import CA

HERE = Path(__file__).parent
HELO = "client.example"


@dataclass(frozen=True)
class Way:
    """Where a client sends to, and how: in clear, with STARTTLS, or with TLS from the start; with a login, or none."""

    port: int
    tls: Literal["none", "starttls", "implicit"] = "none"
    user: str | None = None
    password: str = ""
    host: str = "localhost"  # s-nail looks for no addresses in a certificate
    ca: Path = CA


Client = Callable[[Way, bytes, str, Sequence[str], Path], None]
"""client(way, raw, sender, recipients, folder): `folder` is one that it may use."""


def swaks(way: Way, raw: bytes, sender: str, recipients: Sequence[str], folder: Path) -> None:
    data = folder / "swaks.eml"
    data.write_bytes(raw.removesuffix(b"\r\n"))  # swaks ends the last line itself
    tls = {"none": (), "starttls": ("--tls",), "implicit": ("--tls-on-connect",)}[way.tls]
    login = ("--auth", "PLAIN", "--auth-user", way.user, "--auth-password", way.password) if way.user else ()
    _run(
        *("swaks", "--server", way.host, "--port", str(way.port), "--ehlo", HELO, *tls, *login),
        *(("--tls-verify", "--tls-ca-path", str(way.ca)) if tls else ()),
        *("--from", sender, "--to", ",".join(recipients), "--data", f"@{data}", "--suppress-data", "--no-hints"),
    )


def msmtp(way: Way, raw: bytes, sender: str, recipients: Sequence[str], folder: Path) -> None:
    tls = ("--tls=on", f"--tls-trust-file={way.ca}", f"--tls-starttls={'on' if way.tls == 'starttls' else 'off'}")
    login: tuple[str, ...] = ()
    if way.user:
        login = ("--auth=plain", f"--user={way.user}", f"--passwordeval=echo {way.password}")
    _run(
        *("msmtp", "--file=/dev/null", f"--host={way.host}", f"--port={way.port}", f"--domain={HELO}", "--timeout=30"),
        *(tls if way.tls != "none" else ()),
        *login,
        *(f"--from={sender}", "--remove-bcc-headers=off", "--", *recipients),
        stdin=raw.replace(b"\r\n", b"\n"),
    )


def curl(way: Way, raw: bytes, sender: str, recipients: Sequence[str], folder: Path) -> None:
    data = folder / "curl.eml"
    data.write_bytes(raw)
    scheme = "smtps" if way.tls == "implicit" else "smtp"
    _run(
        *("curl", "-sS", "--url", f"{scheme}://{way.host}:{way.port}/{HELO}", "--upload-file", str(data)),
        *(("--ssl-reqd", "--cacert", str(way.ca)) if way.tls != "none" else ()),
        *(("--user", f"{way.user}:{way.password}") if way.user else ()),
        *("--mail-from", sender),
        *(word for each in recipients for word in ("--mail-rcpt", each)),
    )


def s_nail(way: Way, raw: bytes, sender: str, recipients: Sequence[str], folder: Path) -> None:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    login = f"{way.user.replace('@', '%40')}:{way.password}@" if way.user else ""
    settings = [
        f"mta={'smtps' if way.tls == 'implicit' else 'smtp'}://{login}{way.host}:{way.port}",
        f"smtp-auth={'plain' if way.user else 'none'}",
        *("v15-compat", "sendwait", "nosave", "ttycharset=utf-8", "sendcharsets=utf-8", f"hostname={HELO}"),
        *(["smtp-use-starttls"] if way.tls == "starttls" else []),
        *([f"tls-ca-file={way.ca}", "tls-verify=strict"] if way.tls != "none" else []),
    ]
    _run(
        *(
            "s-nail",
            "-:/",
            *(f"-S{each}" for each in settings),
            "-r",
            sender,
            "-s",
            str(message["Subject"]),
            *recipients,
        ),
        stdin=message.get_content().encode(),
        environment={"HOME": str(folder), "LC_ALL": "C.UTF-8"},
    )


def python(way: Way, raw: bytes, sender: str, recipients: Sequence[str], folder: Path) -> None:
    context = ssl.create_default_context(cafile=way.ca)
    if way.tls == "implicit":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(way.host, way.port, HELO, timeout=30, context=context)
    else:
        smtp = smtplib.SMTP(way.host, way.port, HELO, timeout=30)
    with smtp:
        if way.tls == "starttls":
            smtp.starttls(context=context)
        if way.user:
            smtp.login(way.user, way.password)
        assert smtp.sendmail(sender, recipients, raw) == {}


def nodemailer(way: Way, raw: bytes, sender: str, recipients: Sequence[str], folder: Path) -> None:
    transport = {
        **{"host": way.host, "port": way.port, "name": HELO, "secure": way.tls == "implicit"},
        **{"requireTLS": way.tls == "starttls", "ignoreTLS": way.tls == "none"},
        **({"auth": {"user": way.user, "pass": way.password}} if way.user else {}),
    }
    told = {"transport": transport, "from": sender, "to": list(recipients), "raw": base64.b64encode(raw).decode()}
    _run(
        *(shutil.which("node") or "node", str(HERE / "nodemailer.mjs")),
        stdin=json.dumps(told).encode(),
        environment={"NODE_EXTRA_CA_CERTS": str(way.ca)},
    )


def _run(*command: str | None, stdin: bytes = b"", environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [word or "" for word in command], input=stdin, env={**os.environ, **(environment or {})},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command[0]}: {done.stdout.decode(errors='replace')}{done.stderr.decode()}"
