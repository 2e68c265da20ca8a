"""Exim: STARTTLS, implicit TLS, AUTH under TLS. Debian's package conflicts with Postfix's: `fetch-exim` unpacks it.

The binary knows its own user by name (Debian-exim), which has to exist; `fetch-exim` sees to that, too.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.peers.server import HOSTNAME, MAX_SIZE, PASSWORD, USER, Delivered, ForegroundServer, read_maildir

OWNER = "Debian-exim"
UNPACKED = Path(__file__).parent / "unpacked" / "usr" / "sbin" / "exim4"
EXIM = shutil.which("exim4", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or str(UNPACKED)

CONFIGURATION = """\
primary_hostname = {hostname}
spool_directory = {place}/spool
log_file_path = {place}/log/%slog
pid_file_path = {place}/spool/pid
keep_environment =
# The binary here is not setuid: what takes a mail in delivers it, as Exim's own user.
deliver_drop_privilege
smtp_accept_queue_per_connection = 0
message_size_limit = {max_size}
tls_advertise_hosts = *
tls_on_connect_ports = {tls_port}
tls_certificate = {certificate}
tls_privatekey = {certificate}
acl_smtp_rcpt = recipients
acl_smtp_data = accept

begin acl

recipients:
  deny domains = refused.example
    message = Nobody lives there
  accept

begin routers

everybody:
  driver = accept
  transport = maildir

begin transports

maildir:
  driver = appendfile
  directory = {place}/mail/all
  maildir_format
  envelope_to_add

begin authenticators

plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and {{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}

login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and {{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


class Exim(ForegroundServer):
    """An Exim daemon; the Maildir `mail/all/` takes everything."""

    name = "exim"

    def start(self) -> None:
        # A copy: Exim starts itself again as its own user, who may not walk into a checkout.
        binary = self.place / "exim4"
        shutil.copy(EXIM, binary)
        configuration = self.place / "exim.conf"
        configuration.write_text(
            CONFIGURATION.format(
                place=self.place, hostname=HOSTNAME, max_size=MAX_SIZE, tls_port=self.tls_port,
                certificate=self.certificate, user=USER, password=PASSWORD,
            )
        )  # fmt: skip
        configuration.chmod(0o644)
        (self.place / "spool").mkdir()
        for name in ("spool", "mail", "log"):
            shutil.chown(self.place / name, OWNER)
        ports = ":".join(f"127.0.0.1.{port}" for port in (self.port, self.tls_port))
        self.run([binary, "-C", configuration, "-bdf", "-oX", ports])

    def delivered(self) -> list[Delivered]:
        return read_maildir(self.place / "mail" / "all")
