"""TLS contexts for both sides: modern defaults, no way to turn verification off (RFC 8314 §4.1, RFC 9325).

`server_context` serves STARTTLS and implicit TLS listeners. `client_context` is for the connection to the upstream: the
certificate is verified against the system's authorities, or against `ca_file` alone where one is configured, and the
name in it against the configured host. A file that is missing or unusable raises `OSError` (`ssl.SSLError` is one).
"""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(cert: Path, key: Path | None = None) -> ssl.SSLContext:
    """Context of a listener. `cert` is a PEM chain; `key` its PEM key, if that is not in the same file."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert, key)
    return context


class Certificate:
    """A listener's certificate, taken anew when its files have changed: new handshakes use the new one, and running
    sessions keep theirs. `OSError` as in the module, and then the old one stays."""

    def __init__(self, cert: Path, key: Path | None = None) -> None:
        self._cert = cert
        self._key = key
        self._seen = self._state()
        self.context = server_context(cert, key)

    def renew(self) -> bool:
        """Take the files anew if they have changed since they were last looked at; whether they had."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        # On a context of its own first: a chain without its key would leave the listener without either.
        server_context(self._cert, self._key)
        _load(self.context, self._cert, self._key)
        return True

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._cert, self._key) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _load(context: ssl.SSLContext, cert: Path, key: Path | None = None) -> None:
    # A key with a passphrase must be an error, not a prompt on the operator's terminal.
    context.load_cert_chain(cert, key, password=lambda: b"")


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Context for connections to an upstream."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
