"""Mails on which clients differ, and mails that are attacks: each has its name, none costs time."""

from __future__ import annotations

import time

import pytest

from relay_mta.core import mime
from relay_mta.core.message import index
from tests.core.sketch import HEAD, PLAIN, mail, multipart

AMBIGUOUS = {
    "two-content-type": mail("Content-Type: text/plain\nContent-type: text/html\n\nx\n"),
    "two-content-transfer-encoding": mail(
        "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n\neA==\n"
    ),
    "two-content-disposition": mail("Content-Disposition: inline\nContent-Disposition: attachment\n\nx\n"),
    "two-mime-version": mail("Mime-version: 2.0\n\nx\n"),
    "two-from": mail("From: c@acme.example\n\nx\n"),
    "two-subject": mail("Subject: t\n\nx\n"),
    "two-message-id": mail("Message-ID: <2@acme.example>\n\nx\n"),
    "two-boundary": multipart(PLAIN + "--bb--\n", content_type="multipart/mixed; boundary=bb; boundary=cc"),
    "boundary-extended": multipart(PLAIN + "--bb--\n", content_type="multipart/mixed; boundary=bb; boundary*=''cc"),
    "boundary-missing": multipart(PLAIN + "--bb--\n", content_type="multipart/mixed"),
    "content-type-comment": multipart(PLAIN + "--bb--\n", content_type='multipart/mixed; (x) boundary="bb"'),
    "boundary": multipart(PLAIN + "--bb --\n", content_type='multipart/mixed; boundary="bb "'),
    "boundary-nested": multipart(
        '--bb\nContent-Type: multipart/alternative; boundary="bb"\n\n' + PLAIN + "--bb--\n--bb--\n"
    ),
    "boundary-prefix": multipart(
        '--bbb\nContent-Type: multipart/alternative; boundary="bb"\n\n--bb\n\nx\n--bb--\n\n--bbb--\n',
        content_type="multipart/mixed; boundary=bbb",
    ),
    "delimiter-line": multipart(PLAIN + "--bb extra\n\nx\n--bb--\n"),
    "delimiter-after-close": multipart(PLAIN + "--bb--\n\n" + PLAIN + "--bb--\n"),
    "unclosed-multipart": multipart(PLAIN),
    "part-without-body": multipart("--bb\nContent-Type: text/plain\n--bb--\n"),
    "multipart-encoding": mail(
        'Content-Type: multipart/mixed; boundary="bb"\nContent-Transfer-Encoding: base64\n\n' + PLAIN + "--bb--\n"
    ),
    "encoding": mail("Content-Transfer-Encoding: x-mystery\n\nx\n"),
    "blank-before-colon": mail("Content-Type : text/html\n\nx\n"),
    "header-line": mail("no colon here\nX-A: b\n\nx\n"),
    "header-fold": mail("X-A: b\n \n c\n\nx\n"),
    "content-type": mail("Content-Type: text\n\nx\n"),
    "content-type-parameter": mail("Content-Type: text/plain; charset=utf-8; charset=us-ascii\n\nx\n"),
    "content-length": mail("Content-Length: 3\n\nx\n"),
    "bare-newline": mail("\na\n") + b"b\nc\r\n",
    "nul": mail("\na\0b\n"),
}


@pytest.mark.parametrize("reason", sorted(AMBIGUOUS))
def test_what_clients_read_differently_is_named(reason: str) -> None:
    assert index(AMBIGUOUS[reason]).trouble == f"ambiguous:{reason}"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (mail("\na\n") + b"b\rc\r\n", "bare-newline"),
        (mail("\na\n") + b"b\r", "bare-newline"),
        (b"\n" + mail("\na\n"), "bare-newline"),
        (b"From me Mon Nov 16\r\n" + mail("\nx\n"), "header-line"),
        (b" folded first\r\n" + mail("\nx\n"), "header-line"),
        (mail("X-\xff: y\n\nx\n"), "header-line"),
        (mail("Content-Type: \n\nx\n"), "content-type"),
        (mail("Content-Type: text/plain charset=utf-8\n\nx\n"), "content-type"),
        (mail("Content-Type: text/plain (plain)\n\nx\n"), "content-type"),
        (mail("Content-Type: text/plain; charset=utf-8 (UTF)\n\nx\n"), "content-type-comment"),
        (mail('Content-Type: text/plain; charset="utf-8\n\nx\n'), "content-type-parameter"),
        (mail('Content-Type: text/plain; charset="u"x\n\nx\n'), "content-type-parameter"),
        (mail("Content-Type: text/plain; charset*=us-ascii''utf-8\n\nx\n"), "content-type-parameter"),
        (mail("Content-Type: text/plain; charset*0=utf; charset*1=-8\n\nx\n"), "content-type-parameter"),
        (mail("Content-Type: text/plain; charset=utf\xff8\n\nx\n"), "content-type-parameter"),
        (mail("Content-Type: text/plain; flowed\n\nx\n"), "content-type-parameter"),
        (mail("Content-Disposition: attachment filename=x\n\nx\n"), "content-disposition"),
        (mail("Content-Transfer-Encoding: base\x1b(B64\n\nx\n"), "encoding"),
        (mail("Content-Transfer-Encoding: =?us-ascii?q?base64?=\n\nx\n"), "encoding"),
        (mail("Content-Transfer-Encoding:\n\nx\n"), "encoding"),
        (mail("Content-Transfer-Encoding: 7bit (really)\n\nx\n"), "encoding"),
        (mail("Content-Transfer-Encoding: quoted-printable;\n\nx\n"), "encoding"),
        (multipart(PLAIN + "--bb--\n", content_type='multipart/mixed; boundary=""'), "boundary-missing"),
        (multipart(PLAIN + "--bb--\n", content_type='multipart/mixed; boundary="b\xe9"'), "boundary"),
        (multipart(PLAIN + "--bb--\n", content_type='multipart/mixed; boundary="b\\b"'), "boundary"),
        (multipart(PLAIN + "--bb--\n", content_type='multipart/mixed; boundary="b\n b"'), "boundary"),
        (multipart(PLAIN + "--bb--\n", content_type="multipart/mixed; boundary = bb"), "boundary"),
        (multipart(PLAIN + "--bb--\n", content_type="multipart/mixed; boundary=" + "b" * 71), "boundary"),
        (
            multipart(PLAIN + "--bb--\n", content_type="multipart/mixed; boundary*0=b; boundary*1=b"),
            "boundary-extended",
        ),
        (multipart("no part at all\n"), "unclosed-multipart"),
        (multipart(PLAIN + "--bbb\n--bb--\n"), "delimiter-line"),
        (multipart(PLAIN + "--bb--x\n--bb--\n"), "delimiter-line"),
        (multipart(PLAIN + "--bb\n--bb--\n"), "part-without-body"),
        (
            multipart("--bb\nSubject: x\nContent-Type: text/plain\nContent-Type: text/html\n\nx\n--bb--\n"),
            "two-content-type",
        ),
        (multipart("--bb\nContent-Transfer-Encoding: 9bit\n\nx\n--bb--\n"), "encoding"),
    ],
)
def test_more_of_what_clients_read_differently(raw: bytes, reason: str) -> None:
    assert index(raw).trouble == f"ambiguous:{reason}"


# Attacks --------------------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return HEAD.encode() + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%06d\r\n\r\n--b%06d\r\n" % (i, i) for i in range(depth)
    )


BOMBS = {
    "fifty thousand parts": (multipart("--bb\n\nx\n" * 50_000 + "--bb--\n"), "limit:parts"),
    "three thousand levels": (nested(3_000), "limit:depth"),
    "a subject of 280 kB": (HEAD.encode() + b"X: " + b"=?utf-8?q?x?= " * 20_000 + b"\r\n\r\n", "limit:header"),
    "a subject of 100 kB": (b"Subject: " + b"=?utf-8?q?x?= " * 7_000 + b"\r\n\r\n", "limit:header-value"),
    "a recipient list of 40 kB": (b"To: " + b"a@b.example, " * 3_000 + b"\r\n\r\n", "limit:header-value"),
    "three thousand parameters": (mail("Content-Type: text/plain" + "; a=b" * 3_000 + "\n\nx\n"), "limit:parameters"),
    "sixty thousand fields": (b"A:\r\n" * 60_000 + b"\r\n", "limit:fields"),
    "a header without end": (b"A" * 10_000_000, "limit:header"),
    "blanks in a content type": (mail("Content-Type:" + " " * 16_000 + "a b\n\nx\n"), "ambiguous:content-type"),
    "quotes in a content type": (
        mail("Content-Type: text/plain; " + 'a="' * 5_000 + "\n\nx\n"),
        "ambiguous:content-type-parameter",
    ),
    "escapes in a content type": (
        mail('Content-Type: text/plain; a="' + "\x1b$B\x1b(B" * 2_000 + "\n\nx\n"),
        "ambiguous:content-type-comment",
    ),
    "folds without end": (mail("X: " + "\n " * 50_000 + "\n\nx\n"), "ambiguous:header-fold"),
    "half a boundary a million times": (
        multipart("\n--bbbbbbbbb" * 300_000 + "\n--bb--\n", content_type="multipart/mixed; boundary=bbbbbbbbbbb"),
        "ambiguous:unclosed-multipart",
    ),
    "delimiters with a tail": (multipart("--bbx\n" * 300_000 + "--bb--\n"), "ambiguous:delimiter-line"),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_is_named_in_no_time(name: str) -> None:
    raw, reason = BOMBS[name]
    started = time.process_time()
    message = index(raw)
    for field in ("subject", "to", "content-type", "x"):
        message.values(field)
    spent = time.process_time() - started
    assert message.trouble == reason
    assert spent < 0.5  # a bound for a busy machine; these take 1 to 50 ms


def test_limits_stop_the_scan() -> None:
    assert len(index(BOMBS["fifty thousand parts"][0]).parts) == mime.MAX_PARTS
    assert len(index(nested(3_000)).parts) == mime.MAX_DEPTH + 1
    assert index(nested(mime.MAX_DEPTH)).trouble != "limit:depth"
