"""Content-Transfer-Encoding, read strictly (RFC 2045 §6).

Promises: `decode` gives bytes only where every decoder gives the same ones; else it raises TransferError with the
stable reason. Line ends inside base64 are CRLF; blanks at the end of a quoted-printable line stay (RFC 2045 §6.7 (3)
calls them transport's, decoders differ in removing them, no reader can see them).
Does not: encode; that is the splice's business.
"""

from __future__ import annotations

import binascii
import re

IDENTITIES = frozenset({"7bit", "8bit", "binary"})
ENCODINGS = IDENTITIES | {"base64", "quoted-printable"}

# An "=" that is neither a byte nor a soft line break. At the end of the body it is a soft break whose CRLF went to the
# boundary behind it.
_QP_JUNK = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n|\Z)")


class TransferError(ValueError):
    """A body that decoders read differently; `reason` is the stable reason of the outcome line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(body: bytes, encoding: str) -> bytes:
    """The bytes that `body` stands for, by its lower-case encoding name."""
    if encoding in IDENTITIES:
        return body
    if encoding == "base64":
        try:
            return binascii.a2b_base64(body.replace(b"\r\n", b""), strict_mode=True)
        except binascii.Error:
            raise TransferError("ambiguous:base64") from None
    if encoding == "quoted-printable":
        if _QP_JUNK.search(body):
            raise TransferError("ambiguous:quoted-printable")
        return binascii.a2b_qp(body)
    raise TransferError("ambiguous:encoding")
