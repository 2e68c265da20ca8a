"""Mails drawn with few strokes: "\\n" for CRLF, one character for each byte."""

from __future__ import annotations

HEAD = (
    "From: a@acme.example\r\nTo: b@mail.example\r\nSubject: s\r\nMessage-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\n"
)


def mail(rest: str, *, head: str = HEAD) -> bytes:
    """A mail of `head` and `rest`, written with "\\n" for CRLF."""
    return head.encode() + rest.replace("\n", "\r\n").encode("latin-1")


def multipart(inner: str, *, content_type: str = 'multipart/mixed; boundary="bb"') -> bytes:
    return mail(f"Content-Type: {content_type}\n\n{inner}")


PLAIN = "--bb\nContent-Type: text/plain\n\nhello\n"
