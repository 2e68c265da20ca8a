"""Postfix: STARTTLS, implicit TLS, a submission port with AUTH (asked of Dovecot), XCLIENT and PROXY.

Beside `port` and `tls_port` there are `submission_port` (nothing without AUTH, and AUTH only under TLS) and
`proxy_port` (HAProxy's PROXY line comes first).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.e2e.process import free_port
from tests.peers.server import (
    HOSTNAME,
    MAX_SIZE,
    PASSWORD,
    START_SECONDS,
    STOP_SECONDS,
    USER,
    Delivered,
    Server,
    read_maildir,
)  # fmt: skip

POSTFIX = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "postfix"
DOVECOT = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "dovecot"

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/log/postfix.log
maillog_file_prefixes = {place}
mail_owner = postfix
setgid_group = postdrop
myhostname = {hostname}
mydestination =
alias_maps =
alias_database =
inet_protocols = ipv4
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8
message_size_limit = {max_size}
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{{{refused.example=554 5.7.1 Nobody lives there}}}}
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {certificate}
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth_socket}
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {place}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
virtual_transport = virtual
"""

# Debian's services with chroot switched off: the instance lives outside /var/spool.
MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
127.0.0.1:{submission_port} inet n - n - - smtpd
  -o smtpd_tls_auth_only=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{proxy_port} inet n - n - - smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

# Nothing but the passwords: no protocol of its own.
DOVECOT_CONF = """\
base_dir = {place}/dovecot
log_path = {place}/log/dovecot.log
protocols =
ssl = no
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=plain username_format=%u {place}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {auth_socket} {{
    mode = 0600
    user = postfix
  }}
}}
"""


class Postfix(Server):
    """A Postfix instance; the Maildir `mail/all/` takes everything. `auth`: with a Dovecot that knows the password.

    `settings`: more for main.cf, in which "{place}" is the instance's folder; `tables`: files beside it, by name.
    """

    name = "postfix"

    def __init__(
        self, *, auth: bool = False, settings: str = "", tables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__()
        self.auth = auth
        self.submission_port, self.proxy_port = free_port(), free_port()
        owner = pwd.getpwnam("nobody")
        self._conf = self.place / "conf"
        for name in ("conf", "queue", "data", "dovecot"):
            (self.place / name).mkdir(mode=0o755)
        shutil.chown(self.place / "data", "postfix")
        shutil.chown(self.place / "mail", owner.pw_uid, owner.pw_gid)
        values = {
            "place": self.place, "hostname": HOSTNAME, "max_size": MAX_SIZE, "certificate": self.certificate,
            "uid": owner.pw_uid, "gid": owner.pw_gid, "auth_socket": self.place / "auth",
            "port": self.port, "tls_port": self.tls_port,
            "submission_port": self.submission_port, "proxy_port": self.proxy_port,
        }  # fmt: skip
        (self._conf / "main.cf").write_text(MAIN_CF.format(**values) + settings.format(place=self.place))
        (self._conf / "master.cf").write_text(MASTER_CF.format(**values))
        for name in ("dynamicmaps.cf", "postfix-files"):
            shutil.copy(Path("/etc/postfix") / name, self._conf / name)
        for name, text in tables.items():
            (self._conf / name).write_text(text)
        (self.place / "users").write_text(f"{USER}:{PASSWORD}\n")
        (self.place / "dovecot.conf").write_text(DOVECOT_CONF.format(**values))
        self._dovecot: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._postfix("start")
        if not self.auth:
            return
        self._dovecot = subprocess.Popen([DOVECOT, "-F", "-c", str(self.place / "dovecot.conf")])
        deadline = time.monotonic() + START_SECONDS
        while not (self.place / "auth").exists():
            assert self._dovecot.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._dovecot is not None:
            self._dovecot.send_signal(signal.SIGTERM)
        try:
            self._postfix("stop")
        finally:
            if self._dovecot is not None:
                self._dovecot.wait(STOP_SECONDS)

    def _postfix(self, command: str) -> None:
        done = subprocess.run(
            [POSTFIX, "-c", str(self._conf), command], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"postfix {command}: {done.stdout}{done.stderr}{self.said()}"

    def delivered(self) -> list[Delivered]:
        return read_maildir(self.place / "mail" / "all")

    def as_delivered(self) -> list[bytes]:
        """All mails with what Postfix put in front, lines ending in LF."""
        return [path.read_bytes() for path in (self.place / "mail" / "all" / "new").glob("*")]

    def empty(self) -> None:
        """Forget what was delivered."""
        shutil.rmtree(self.place / "mail" / "all", ignore_errors=True)
