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
    load(context, cert, key)
    return context


def load(context: ssl.SSLContext, cert: Path, key: Path | None = None) -> None:
    """Give a listener's context another certificate: new handshakes use it, running sessions keep theirs."""
    # A key with a passphrase must be an error, not a prompt on the operator's terminal.
    context.load_cert_chain(cert, key, password=lambda: b"")


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Context for connections to an upstream."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
