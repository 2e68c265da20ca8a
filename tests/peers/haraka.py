"""Haraka, from npm: STARTTLS, implicit TLS, AUTH. Mails become files by a plugin of ours, haraka_to_files.js."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.peers.server import HOSTNAME, MAX_SIZE, PASSWORD, USER, Delivered, ForegroundServer

HERE = Path(__file__).parent
HARAKA = HERE / "node_modules" / "Haraka" / "bin" / "haraka"

_OWN_FIELDS = re.compile(
    rb"(?:Authentication-Results: outbound\.example\.jp;\r\n(?:\t[^\r\n]*\r\n)+)?"
    rb"Received: from [^\r\n]*\r\n\tby outbound\.example\.jp [^\r\n]*\r\n(?:\t[^\r\n]*\r\n)*"
)

# Haraka wants every section to be there. Long lines are the sender's business: it would fold them.
CONNECTION_INI = f"""\
[main]
[haproxy]
hosts[] =
[headers]
max_lines=1000
max_received=100
[max]
bytes={MAX_SIZE}
mime_parts=1000
line_length=512
data_line_length={MAX_SIZE}
[message]
helo=Hello
close=Bye
[uuid]
banner_chars=6
deny_chars=0"""


# RFC 7919 §A.1, ffdhe2048: without a group, Haraka looks for a prime of its own and keeps a processor busy with that.
DH_GROUP = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----"""


class Haraka(ForegroundServer):
    """One Haraka process; takes mail for the example domains of these tests and no other."""

    name = "haraka"

    def start(self) -> None:
        for name, text in {
            "me": HOSTNAME,
            "plugins": "tls\nauth/flat_file\nrcpt_to.in_host_list\nto_files",
            "host_list": "acme.example.jp\nmail.example.net\nmail.example.org\nmail.example.com",
            "smtp.ini": f"listen=127.0.0.1:{self.port},127.0.0.1:{self.tls_port}\nsmtps_port={self.tls_port}",
            "tls.ini": f"key={self.certificate}\ncert={self.certificate}",
            "connection.ini": CONNECTION_INI,
            "auth_flat_file.ini": f"[core]\nmethods=PLAIN,LOGIN\n[users]\n{USER}={PASSWORD}",
            "dhparams.pem": DH_GROUP,
            "log.ini": "level=notice",
        }.items():
            path = self.place / "config" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{text}\n")
        (self.place / "plugins").mkdir()
        shutil.copy(HERE / "haraka_to_files.js", self.place / "plugins" / "to_files.js")
        node = shutil.which("node") or "node"
        self.run([node, HARAKA, "-c", self.place], {**os.environ, "MAIL_FOLDER": str(self.place / "mail")})

    def delivered(self) -> list[Delivered]:
        found = []
        for path in (self.place / "mail").glob("*.eml"):
            recipients, _, raw = path.read_bytes().partition(b"\n")
            own = _OWN_FIELDS.match(raw)
            assert own, raw[:300]
            raw = raw[own.end() :]
            found += [Delivered(each, raw) for each in recipients.decode().split()]
        return found
