"""Hypothesis strategies for mails: MIME trees whose parts are known, their bytes, and bytes that went wrong.

`mails()` gives a `Mail`: its bytes, and the tree they were made of, so that a test can compare what it reads with what
was meant. `mangled_mails()` gives bytes only: valid mails with some stretch cut, doubled or replaced.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from hypothesis import strategies as st

from relay_mta.core import charset

JAPANESE = "あいうかがきアカガ選考結果見送祈申上株式会社様御中〜。、「」（）　"
EXTENSIONS = "①②№㈱髙﨑ⅳ"
HALF_KANA = "ｱｲｶﾞﾊﾟ｡"
LATIN = "abcXYZ 019.,:-_/?!<>&\\~"

#: Codec → the label that a mail has for it, and characters it can write.
CODECS: dict[str, tuple[str, str]] = {
    "ascii": ("us-ascii", LATIN),
    "utf-8": ("UTF-8", LATIN + JAPANESE + EXTENSIONS + HALF_KANA + "é😀"),
    "iso-2022-jp": ("ISO-2022-JP", LATIN.replace("\\", "") + JAPANESE + EXTENSIONS + HALF_KANA),
    "shift_jis": ("Shift_JIS", LATIN + JAPANESE.replace("〜", "～") + EXTENSIONS + HALF_KANA),
    "euc-jp": ("EUC-JP", LATIN.replace("\\", "").replace("~", "") + JAPANESE + EXTENSIONS + HALF_KANA),
    "iso-8859-1": ("ISO-8859-1", LATIN + "éüñß"),
}


@dataclass(frozen=True)
class Leaf:
    """A leaf that was written: `text` for text leaves, with CRLF line ends; `payload` its bytes before encoding."""

    content_type: str
    codec: str
    encoding: str
    payload: bytes
    text: str = ""
    filename: str | None = None

    def raw(self) -> bytes:
        """The leaf as a body part: header, empty line, body."""
        head = f"Content-Type: {self.content_type}"
        if self.content_type.startswith("text/"):
            head += f"; charset={CODECS[self.codec][0]}"
        if self.filename:
            head += f'; name="{self.filename}"\r\nContent-Disposition: attachment; filename="{self.filename}"'
        head += f"\r\nContent-Transfer-Encoding: {self.encoding}\r\n\r\n"
        return head.encode() + encoded(self.payload, self.encoding)


@dataclass(frozen=True)
class Multi:
    """A multipart that was written."""

    subtype: str
    boundary: str
    children: tuple[Leaf | Multi, ...]
    preamble: bytes = b""
    epilogue: bytes = b""

    def raw(self) -> bytes:
        """The multipart as a body part."""
        delimiter = b"--" + self.boundary.encode()
        out = f'Content-Type: multipart/{self.subtype}; boundary="{self.boundary}"\r\n\r\n'.encode() + self.preamble
        for child in self.children:
            out += delimiter + b"\r\n" + child.raw() + b"\r\n"
        return out + delimiter + b"--\r\n" + self.epilogue


@dataclass(frozen=True)
class Mail:
    """A mail that was written: its bytes and its root."""

    raw: bytes
    root: Leaf | Multi

    def preorder(self) -> list[Leaf | Multi]:
        """Every part, parents first."""
        found: list[Leaf | Multi] = []
        waiting: list[Leaf | Multi] = [self.root]
        while waiting:
            node = waiting.pop()
            found.append(node)
            if isinstance(node, Multi):
                waiting.extend(reversed(node.children))
        return found


def encoded(payload: bytes, encoding: str) -> bytes:
    """`payload` in a content transfer encoding, with CRLF line ends."""
    if encoding == "base64":
        return base64.encodebytes(payload).replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        return binascii.b2a_qp(payload, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return payload


def texts(codec: str, *, max_lines: int = 5) -> st.SearchStrategy[str]:
    """Lines that a codec can write, each with its CRLF."""
    line = st.text(CODECS[codec][1], max_size=30)
    return st.lists(line, max_size=max_lines).map(lambda lines: "".join(each + "\r\n" for each in lines))


@st.composite
def text_leaves(draw: st.DrawFn) -> Leaf:
    """A plain or HTML leaf in any codec and any encoding that suits it."""
    codec = draw(st.sampled_from(sorted(CODECS)))
    text = draw(texts(codec))
    kind = draw(st.sampled_from(["text/plain", "text/html"]))
    identity = "7bit" if codec in ("ascii", "iso-2022-jp") else "8bit"
    encoding = draw(st.sampled_from([identity, "base64", "quoted-printable"]))
    return Leaf(kind, codec, encoding, charset.encode(text, codec), text)


def attachments() -> st.SearchStrategy[Leaf]:
    """A binary leaf with a file name."""
    return st.builds(
        lambda payload, name: Leaf("application/octet-stream", "", "base64", payload, filename=name),
        st.binary(max_size=200),
        st.sampled_from(["a.pdf", "notice 2.pdf", "x-y_z.bin"]),
    )


@st.composite
def trees(draw: st.DrawFn, *, depth: int = 3) -> Leaf | Multi:
    """A leaf, or a multipart of up to four parts, nested at most `depth` deep; all boundaries differ."""
    serial = iter(range(10_000))

    def node(level: int) -> Leaf | Multi:
        if level == 0 or draw(st.booleans()):
            return draw(text_leaves() | attachments())
        number = next(serial)
        children = tuple(node(level - 1) for _ in range(draw(st.integers(1, 4))))
        return Multi(
            draw(st.sampled_from(["mixed", "alternative", "related", "signed", "report"])),
            f"=_{number:04d}_boundary'()+,-./:?",
            children,
            draw(st.sampled_from([b"", b"This is a multi-part message in MIME format.\r\n", b"\r\n"])),
            draw(st.sampled_from([b"", b"\r\n", b"-- \r\nbehind the end\r\n"])),
        )

    return node(depth)


HEADERS = (
    b"From: =?UTF-8?B?5o6h55So?= <saiyo@acme.example>\r\n"
    b"To: kouho@mail.example\r\n"
    b"Subject: =?ISO-2022-JP?B?GyRCQSo5TTdrMkwbKEI=?=\r\n"
    b" =?ISO-2022-JP?B?GyRCJE4kKkNOJGkkOxsoQg==?=\r\n"
    b"Date: Mon, 16 Nov 2026 10:00:00 +0900\r\n"
    b"Message-ID: <1@acme.example>\r\n"
    b"MIME-Version: 1.0\r\n"
)


@st.composite
def mails(draw: st.DrawFn, *, depth: int = 3) -> Mail:
    """A well-formed mail."""
    root = draw(trees(depth=depth))
    return Mail(HEADERS + root.raw(), root)


SPLINTERS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"--", b"=", b";", b'"', b"(", b")", b":", b" ", b"\t", b"\0", b"\xff",
    b"\x1b$B", b"\x1b(B", b"boundary=", b"Content-Type: ", b"multipart/mixed;", b"=?utf-8?q?", b"?=",
    b"*0*=", b"\r\n--=_0000_",
)  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn, raw: bytes) -> bytes:
    """`raw` with up to eight stretches cut, doubled or replaced."""
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from(SPLINTERS) | st.binary(max_size=8) | st.just(raw[start:end] * 2))
        raw = raw[:start] + piece + raw[end:]
    return raw


def mangled_mails() -> st.SearchStrategy[bytes]:
    """Mails with something wrong in them, sometimes."""
    return mails().flatmap(lambda mail: mangled(mail.raw))
