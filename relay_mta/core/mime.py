"""The tree of a mail's MIME parts, as spans of its bytes (RFC 2045, RFC 2046 §5.1).

Promises: one linear scan (bytes.find for each boundary, no recursion); never raises on any bytes; every span lies
inside its parent's. Where mail clients are known to read a structure differently, or where a limit is passed, the tree
comes with a `trouble`, a stable reason, and such a mail is not to be touched.
Does not: decode bodies, or look inside message/rfc822: another mail is a leaf here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from relay_mta.core import header, parameter, transfer
from relay_mta.core.header import Field
from relay_mta.core.parameter import Parameters

# Real mail: five levels (signed, mixed, related, alternative, text). Each level reads its bytes once more.
MAX_DEPTH = 20
# Real mail: some dozen attachments. A part costs about 20 µs.
MAX_PARTS = 1000
# Postfix's header_size_limit is 100 KiB; long recipient lists and ARC chains fit well into this.
MAX_HEADER = 256 * 1024
# In the whole mail. Real mail: some hundred on top after many hops, and five or six in each part.
MAX_FIELDS = 10_000

# RFC 2046 §5.1.1; longer ones, and those outside printable ASCII or ending in a blank, are read differently.
_BOUNDARY = re.compile(r"[!#-\[\]-~ ]{0,69}[!#-\[\]-~]")
_TYPE = re.compile(r"[!#-'*+\-.0-9a-z^-~]+/[!#-'*+\-.0-9a-z^-~]+")
_TOKEN = re.compile(r"[!#-'*+\-.0-9a-z^-~]+")
_PADDING = re.compile(rb"[ \t]*+(\r\n|\Z)")
_ONCE = frozenset({"content-type", "content-transfer-encoding", "content-disposition", "from", "subject", "message-id"})
_LOOKED_AT = _ONCE | {"mime-version", "content-length", "to", "cc", "bcc", "reply-to"}


@dataclass(frozen=True, slots=True)
class Part:
    """One MIME part: the mail itself (index 0) or a body part of a multipart.

    The header block is [start, body_start) with its empty line; the body [body_start, body_end) excludes the CRLF that
    belongs to the next boundary (RFC 2046 §5.1.1). All are byte offsets into the mail. `content_type` and `encoding`
    are lower case; `params` are Content-Type's, `filename` is Content-Disposition's or else Content-Type's, decoded.
    `parent` and `children` are indices into the tuple of parts.
    """

    index: int
    parent: int | None
    depth: int
    start: int
    body_start: int
    body_end: int
    fields: tuple[Field, ...]
    content_type: str
    params: Mapping[str, str] = field(hash=False)
    encoding: str
    disposition: str | None
    filename: str | None
    children: tuple[int, ...] = ()


@dataclass(slots=True)
class _Region:
    """Bytes [start, end) that are one part, before it is read."""

    start: int
    end: int
    parent: int | None
    depth: int
    default: str
    boundaries: tuple[bytes, ...]


class _Scan:
    """One pass over a mail: parts in preorder and the first trouble met."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.parts: list[Part] = []
        self.children: dict[int, list[int]] = {}
        self.trouble: str | None = None
        self.fields = 0
        self.regions = [_Region(0, len(raw), None, 0, "text/plain", ())]

    def run(self) -> None:
        """Read region by region; a multipart pushes its body parts, so that the list comes out in preorder."""
        while self.regions:
            if len(self.parts) >= MAX_PARTS:
                self.trouble_is("limit:parts")
                break
            region = self.regions.pop()
            part = self.part(region)
            self.parts.append(part)
            if part.parent is not None:
                self.children.setdefault(part.parent, []).append(part.index)
            if part.content_type.startswith("multipart/") and not (self.trouble or "").startswith("limit:"):
                self.split(part, region)

    def trouble_is(self, reason: str) -> None:
        """Remember the first reason; a limit, after which the tree is not whole, goes before the others."""
        if self.trouble is None or (reason.startswith("limit:") and not self.trouble.startswith("limit:")):
            self.trouble = reason

    def part(self, region: _Region) -> Part:
        """Read a region's header block."""
        raw, start, end = self.raw, region.start, region.end
        if raw.startswith(b"\r\n", start, end):
            fields_end, body_start = start, start + 2
        else:
            fields_end = raw.find(b"\r\n\r\n", start, min(end, start + MAX_HEADER))
            if fields_end >= 0:
                fields_end += 2
                body_start = fields_end + 2
            else:
                fields_end = body_start = min(end, start + MAX_HEADER)
                if fields_end < end:
                    self.trouble_is("limit:header")
                elif region.parent is not None and start < end and raw[end - 2 : end] != b"\r\n":
                    self.trouble_is("ambiguous:part-without-body")
        fields, trouble = header.scan(raw, start, fields_end, most=MAX_FIELDS - self.fields)
        self.fields += len(fields)
        if trouble:
            self.trouble_is(trouble)
        return self.described(region, fields, body_start)

    def described(self, region: _Region, fields: tuple[Field, ...], body_start: int) -> Part:
        """A part with what its Content-* fields say."""
        seen = self.seen(fields)
        content_type, params = self.content_type(seen.get("content-type"), region.default)
        encoding = "7bit"
        if "content-transfer-encoding" in seen:
            encoding = header.unfold(seen["content-transfer-encoding"]).strip(b" \t").decode("latin-1").lower()
            if encoding not in transfer.ENCODINGS:
                self.trouble_is("ambiguous:encoding")
        if content_type.startswith("multipart/") and encoding not in transfer.IDENTITIES:
            self.trouble_is("ambiguous:multipart-encoding")  # RFC 2045 §6.4
        disposition = filename = None
        if "content-disposition" in seen:
            found = parameter.parse(seen["content-disposition"])
            disposition = found.head or None
            if disposition and not _TOKEN.fullmatch(disposition):
                self.trouble_is("ambiguous:content-disposition")
            filename = found.values.get("filename")
        return Part(
            index=len(self.parts),
            parent=region.parent,
            depth=region.depth,
            start=region.start,
            body_start=body_start,
            body_end=region.end,
            fields=fields,
            content_type=content_type,
            params=params,
            encoding=encoding,
            disposition=disposition,
            filename=filename or params.get("name"),
        )

    def seen(self, fields: tuple[Field, ...]) -> dict[str, bytes]:
        """The values of the fields that matter here, and trouble for those that stand there twice."""
        seen: dict[str, bytes] = {}
        for each in fields:
            name = each.name.lower()
            if name not in _LOOKED_AT:
                continue
            if len(each.value) > header.MAX_VALUE:  # nobody here would read it to its end
                self.trouble_is("limit:header-value")
            if name == "content-length":  # no standard field of mail; whoever obeys it cuts the body elsewhere
                self.trouble_is("ambiguous:content-length")
            elif name not in seen:
                seen[name] = each.value
            elif name in _ONCE or (name == "mime-version" and header.text(seen[name]) != header.text(each.value)):
                self.trouble_is(f"ambiguous:two-{name}")
        return seen

    def content_type(self, value: bytes | None, default: str) -> tuple[str, Mapping[str, str]]:
        """Type and parameters of a Content-Type value; a type that nobody can read is opaque bytes."""
        if value is None:
            return default, {}
        found = parameter.parse(value)
        if not _TYPE.fullmatch(found.head):
            self.trouble_is("ambiguous:content-type")
            return "application/octet-stream", found.values
        if found.trouble:
            self.trouble_is(_parameter_reason(found))
        return found.head, found.values

    def split(self, part: Part, region: _Region) -> None:
        """Cut a multipart's body at its boundary and push the pieces."""
        boundary = self.boundary(part, region)
        if boundary is None:
            return
        if part.depth >= MAX_DEPTH:
            self.trouble_is("limit:depth")
            return
        pieces = self.pieces(part, boundary)
        default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"  # RFC 2046 §5.1.5
        boundaries = (*region.boundaries, boundary)
        for start, end in reversed(pieces):
            self.regions.append(_Region(start, end, part.index, part.depth + 1, default, boundaries))

    def boundary(self, part: Part, region: _Region) -> bytes | None:
        """A multipart's boundary, if every reader takes the same one."""
        text = part.params.get("boundary")
        if not text:
            self.trouble_is("ambiguous:boundary-missing")
            return None
        if not _BOUNDARY.fullmatch(text):
            self.trouble_is("ambiguous:boundary")
            return None
        boundary = text.encode("ascii")
        for outer in region.boundaries:
            if outer == boundary:
                self.trouble_is("ambiguous:boundary-nested")
                return None
            if outer.startswith(boundary) or boundary.startswith(outer):
                self.trouble_is("ambiguous:boundary-prefix")
        return boundary

    def pieces(self, part: Part, boundary: bytes) -> list[tuple[int, int]]:
        """The spans between a multipart's delimiter lines."""
        raw, end = self.raw, part.body_end
        key = b"\r\n--" + boundary
        pieces: list[tuple[int, int]] = []
        piece: int | None = None
        closed = False
        at = part.body_start - 2  # the CRLF of the empty line may belong to the first delimiter
        if at < part.start or raw[at : at + 2] != b"\r\n":
            at = part.body_start
        while (found := raw.find(key, at, end)) >= 0:
            at = found + len(key)
            closing = raw.startswith(b"--", at, end)
            line = _PADDING.match(raw, at + 2 if closing else at, end)
            if line is None:
                self.trouble_is("ambiguous:delimiter-line")
                break
            if closed:
                self.trouble_is("ambiguous:delimiter-after-close")
                break
            if piece is not None:
                if found < piece:  # two delimiter lines with nothing, not even an empty line, between them
                    self.trouble_is("ambiguous:part-without-body")
                pieces.append((piece, max(piece, found)))
            closed = closing
            piece = None if closing else line.end()
            at = line.end() if closing else line.end() - 2  # two delimiter lines may share the CRLF between them
            if len(pieces) > MAX_PARTS:
                self.trouble_is("limit:parts")
                break
        if piece is not None:
            pieces.append((piece, end))
        if not closed:
            self.trouble_is("ambiguous:unclosed-multipart")
        return pieces

    def tree(self) -> tuple[Part, ...]:
        """The parts, each with its children."""
        children = self.children
        return tuple(
            replace(part, children=tuple(children[part.index])) if part.index in children else part
            for part in self.parts
        )


def _parameter_reason(found: Parameters) -> str:
    kind, _, name = (found.trouble or "").partition(":")
    if kind in ("length", "count"):
        return "limit:parameters"
    if kind == "comment":
        return "ambiguous:content-type-comment"
    if name.split("*", 1)[0] == "boundary":
        return {"duplicate": "ambiguous:two-boundary", "extended": "ambiguous:boundary-extended"}.get(
            kind, "ambiguous:boundary"
        )
    return "ambiguous:content-type-parameter"


def parts_of(raw: bytes, *, mended: bool = False) -> tuple[tuple[Part, ...], str | None]:
    """The parts of a mail in preorder, at least one, and the reason why it must not be touched, if there is one.

    `mended`: it is known that every line ends in CRLF and that CR and LF stand nowhere else.
    """
    scan = _Scan(raw)
    if b"\0" in raw:
        scan.trouble_is("ambiguous:nul")
    if not mended and raw.count(b"\r\n") * 2 != len(raw.translate(None, _NO_NEWLINE)):
        scan.trouble_is("ambiguous:bare-newline")  # RFC 5321 §2.3.8
    scan.run()
    return scan.tree(), scan.trouble


_NO_NEWLINE = bytes(byte for byte in range(256) if byte not in b"\r\n")
