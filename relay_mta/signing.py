"""Signing again what a splice has changed (`dkim = "resign"`), and the key for it.

One `Signer` is one company's key, selector and domain. Signatures are RSA-SHA256, relaxed/relaxed (RFC 6376 §3.4, RFC
8301), over the fields that RFC 6376 §5.4.1 names, as far as the mail has them; From is signed once more than it stands
there, so that nobody can add another. Signing takes some milliseconds, for large mails some hundred: callers with an
event loop do it in a thread.

What it does not: publish the record, ask DNS, or verify.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import dkim
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay_mta.config import Config
from relay_mta.core.errors import RelayError, SpliceError
from relay_mta.core.ports import Chunks

KEY_BITS = 2048
"""RFC 8301 §3.2: signers should use at least 2048 bits; longer keys do not fit into one string of a DNS record."""
FEWEST_BITS = 1024
_STRING = 255
"""Octets of one string of a TXT record (RFC 1035 §3.3)."""
# RFC 6376 §5.4.1, without those that a server behind us may write.
_SIGNED = (
    b"from reply-to subject date to cc message-id in-reply-to references mime-version content-type "
    b"content-transfer-encoding list-unsubscribe list-unsubscribe-post"
).split()


class Signer:
    """A company's key. Raises `RelayError` if the file is not one."""

    def __init__(self, key: Path, *, domain: str, selector: str) -> None:
        self._key = _readable(key)
        self._pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        self.domain = domain
        self.selector = selector

    def signed(self, mail: Chunks) -> Chunks:
        """The mail with one more DKIM-Signature on top. Raises `SpliceError("dkim")`."""
        raw = b"".join(mail)
        head = raw[: raw.find(b"\r\n\r\n") + 2].lower()
        fields = [name for name in _SIGNED if head.startswith(name + b":") or b"\r\n" + name + b":" in head]
        try:
            made = dkim.sign(
                raw,
                self.selector.encode("ascii"),
                self.domain.encode("ascii"),
                self._pem,
                canonicalize=(b"relaxed", b"relaxed"),
                include_headers=[*fields, b"from"],
            )
        except (dkim.DKIMException, ValueError, IndexError) as error:
            raise SpliceError("dkim", type(error).__name__) from error
        return (made, *mail)

    def record(self) -> str:
        """The TXT record that publishes the key, as a line of a zone file."""
        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        text = f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"
        strings = " ".join(f'"{text[i : i + _STRING]}"' for i in range(0, len(text), _STRING))
        return f"{self.selector}._domainkey.{self.domain}. IN TXT ( {strings} )"


def generate(path: Path) -> None:
    """Write a new key, readable by its owner alone. Raises `RelayError`, also if there is a file already."""
    key = generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError:
        raise RelayError(f"{path}: there is a file already; it is not replaced") from None
    except OSError as error:
        raise RelayError(f"{path}: cannot be written: {error.strerror or error}") from None


def _readable(path: Path) -> RSAPrivateKey:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise RelayError(f"{path}: the DKIM key cannot be read: {error.strerror or error}") from None
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise RelayError(f"{path}: is no private key in PEM without a password") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < FEWEST_BITS:
        raise RelayError(f"{path}: is no RSA key of {FEWEST_BITS} bits or more")
    return key


def signers_of(config: Config) -> dict[str, Signer]:
    """The keys of the companies that sign again, by id. Raises `RelayError` for a key that cannot be used."""
    return {
        each.company.id: Signer(each.dkim_key.path, domain=each.dkim_key.domain, selector=each.dkim_key.selector)
        for each in config.companies
        if each.dkim_key is not None and each.company.dkim == "resign"
    }
