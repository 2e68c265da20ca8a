"""Character sets of mail: which one a text is really in, and exact ways between its bytes and its characters.

A *codec* is our own name of a character set: "ascii", "utf-8", "iso-2022-jp", "shift_jis", "euc-jp", "iso-8859-1",
"windows-1252", or the standard library's name of another one that is a superset of ASCII without shift states. Only
those are known: a text in UTF-7, UTF-16, HZ or ISO-2022-KR has no codec here.

Promises: `find` returns a codec that decodes the bytes strictly, or raises LookupError; `decode` and `encode` are
strict and `decode(encode(text, codec), codec) == text`. "shift_jis" is Microsoft's (cp932); "iso-2022-jp" is code page
50221 (`core.cp50221`); "euc-jp" has NEC's row 13 and the IBM extensions (eucJP-ms).
Does not: repair. A text with one undecodable byte is in another character set, or in none.

RFC 2045 §5.2 (us-ascii is the default), RFC 2978 (names), RFC 1468, RFC 1554.
"""

from __future__ import annotations

import re
import unicodedata
from encodings.aliases import aliases
from itertools import islice

from relay_mta.core import cp50221

_ALIASES = {
    "ascii": "ascii us-ascii ansi-x3.4-1968 iso646-us 646",
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 x-utf-8 utf-8n utf-8-sig",
    "iso-2022-jp": "iso-2022-jp iso2022-jp iso2022jp csiso2022jp iso-2022-jp-ms x-iso-2022-jp jis cp50220 cp50221"
    " x-windows-50220 x-windows-50221 iso-2022-jp-1",
    "shift_jis": "shift-jis shiftjis shift-jis-ms x-sjis sjis x-shift-jis ms-kanji csshiftjis windows-31j"
    " cswindows31j ms932 cp932 x-ms-cp932 windows-932 932",
    "euc-jp": "euc-jp eucjp x-euc-jp x-eucjp ujis eucjp-ms eucjp-win cp51932 cp20932 x-euc"
    " extended-unix-code-packed-format-for-japanese cseucpkdfmtjapanese",
    "iso-8859-1": "iso-8859-1 iso8859-1 latin1 latin-1 l1 iso-ir-100 cp819",
    "windows-1252": "windows-1252 cp1252 ansi",
    "cp949": "cp949 euc-kr euckr ks-c-5601-1987 uhc windows-949 korean",  # euc-kr is a part of it
    "gb18030": "gb18030 gb2312 gbk cp936 x-gbk gb-2312-80 csgb2312",  # each a subset of the next
}
_BY_LABEL = {label: codec for codec, labels in _ALIASES.items() for label in labels.split()}
_PYTHON = {"shift_jis": "cp932", "euc-jp": "euc_jp", "windows-1252": "cp1252"}
# Every other codec of the standard library that mail may name: supersets of ASCII, without states. The table is made
# once: `codecs.lookup` would look for a file for every unknown label, and remember it for good.
_OTHERS = re.compile(
    r"iso8859_(?:[2-9]|1[013-6])|cp125[0-8]|cp874|koi8_[rut]|kz1048|tis_620|big5|cp949|cp950|mac_(?:roman|cyrillic|greek)"
)
_FOREIGN = {label.replace("_", "-"): name for label, name in aliases.items()}
_FOREIGN |= {name.replace("_", "-"): name for name in aliases.values()}
# What the standards say of codecs that vendors have extended: the standard library's name of the strict one.
_STANDARD = {"iso-2022-jp": "iso2022_jp", "shift_jis": "shift_jis", "euc-jp": "euc_jp", "cp949": "euc_kr"}
# Labels that promise less, or more, than their codec's standard.
_PROMISES = {
    "cp932": "windows-31j cswindows31j ms932 cp932 x-ms-cp932 windows-932 932",
    "cp949": "cp949 uhc windows-949",
    "gb2312": "gb2312 gb-2312-80 csgb2312",
    "gbk": "gbk cp936 x-gbk",
}
_PROMISED = {label: standard for standard, labels in _PROMISES.items() for label in labels.split()}
_JIS_ESCAPE = re.compile(rb"\x1b[$(]")
_SEVEN_BIT = bytes(range(0x80))
_UTF8_KANA = re.compile(rb"\xe3[\x80-\x83][\x80-\xbf]")
_C1 = re.compile(rb"[\x80-\x9f]")
_JAPANESE = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e]")
_KANA = re.compile("[\u3041-\u30fe]")
_ODD = re.compile("[\uff61-\uff9f\u0080-\u00a0\ue000-\uf8ff]")
_LONE_KANJI = re.compile("[A-Za-z][\u4e00-\u9fff](?![\u3000-\u9fff])|(?<![\u3000-\u9fff])[\u4e00-\u9fff][A-Za-z]")
_HALF_KANA = re.compile("[\uff61-\uff9f]+")
_EUC = re.compile(rb"(?:[\xa1-\xfe]{2})+|(?:\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe]{2})+|[\x00-\x7f]+")
_EUC_CHARACTER = re.compile(rb"[\x00-\x7f]|\x8f..|..", re.DOTALL)
_SAMPLE = 4096  # characters that a guess looks at: enough to tell Japanese from an accident


def _plain_label(label: str) -> str:
    return label.strip("\"' \t").lower().replace("_", "-")


def by_label(label: str) -> str | None:
    """The codec that a label names; None if nobody knows the label; raises LookupError for those we do not read."""
    name = _plain_label(label)
    known = _BY_LABEL.get(name)
    if known:
        return known
    foreign = _FOREIGN.get(name)
    if foreign is None or _OTHERS.fullmatch(foreign):
        return foreign
    raise LookupError("unsupported character set")


def find(label: str | None, payload: bytes) -> str:
    """The codec that `payload` is really in, by its label and its bytes; `decode` works with it.

    A label that decodes the bytes is believed, except that 7-bit bytes with JIS escape sequences are JIS whatever they
    are called. Raises LookupError if no codec can be told, or if there are two: 8-bit bytes among JIS escape sequences,
    as a form makes them that puts a name into a template of another character set.
    """
    codec = by_label(label) if label else None
    if payload.isascii():
        if _JIS_ESCAPE.search(payload):
            if _decodes(payload, cp50221.NAME):
                return cp50221.NAME
            raise LookupError("unknown escape sequences")
        if codec == cp50221.NAME and not _decodes(payload, codec):
            raise LookupError("shift codes that are none of JIS")
        return codec or "ascii"
    if _JIS_ESCAPE.search(payload):
        raise LookupError("8-bit bytes and JIS escape sequences")
    if codec == "iso-8859-1" and _C1.search(payload) and _decodes(payload, "windows-1252"):
        return "windows-1252"  # C1 controls are no text; every mail client reads the label so
    if codec and _decodes(payload, codec):
        return codec
    return _guess(payload)


def agrees(label: str | None, payload: bytes, codec: str) -> bool:
    """Whether `find` takes the codec for these bytes."""
    try:
        return find(label, payload) == codec
    except LookupError:
        return False


def widely_read(payload: bytes, codec: str, label: str | None) -> bool:
    """Whether those who read `payload` by the letter of its label can: many stop at ①, ㈱ or 髙 in ISO-2022-JP, and at
    what only GB 18030 has in a text labelled gb2312."""
    name = _plain_label(label) if label else ""
    promised = _PROMISED.get(name) if _BY_LABEL.get(name) == codec else None
    standard = promised or _STANDARD.get(codec)
    if standard is None:
        return True
    try:
        payload.decode(standard)
    except UnicodeDecodeError:
        return False
    return True


def _decodes(payload: bytes, codec: str) -> bool:
    try:
        decode(payload, codec)
    except UnicodeDecodeError:
        return False
    return True


def _guess(payload: bytes) -> str:
    """UTF-8, EUC-JP or Shift_JIS, for 8-bit bytes whose label is missing or wrong; raises LookupError."""
    if _decodes(payload, "utf-8"):
        return "utf-8"
    if 6 * len(_UTF8_KANA.findall(payload)) > len(payload.translate(None, _SEVEN_BIT)):
        raise LookupError("broken UTF-8")  # as Shift_JIS it would decode, to garbage
    scores = {codec: _japanese(payload, codec) for codec in ("euc-jp", "shift_jis")}
    best = max(scores, key=lambda codec: scores[codec])
    if scores[best] <= 0:
        raise LookupError("no character set fits")
    return best


def _japanese(payload: bytes, codec: str) -> int:
    """How Japanese the bytes look in a codec; 0 or less: not at all."""
    try:
        text = decode(payload, codec)[:_SAMPLE]
    except UnicodeDecodeError:
        return 0
    if not _KANA.search(text) and _LONE_KANJI.search(text):
        return 0  # a Latin text: two of its bytes happened to look like one kanji
    return len(_JAPANESE.findall(text)) - len(_ODD.findall(text))


def decode(payload: bytes, codec: str) -> str:
    """The text of `payload`, every line end as it is; raises UnicodeDecodeError."""
    if codec == cp50221.NAME:
        return cp50221.decode(payload)
    if codec == "euc-jp":
        return _decode_euc(payload)
    return payload.decode(_PYTHON.get(codec, codec))


def encode(text: str, codec: str) -> bytes:
    """The bytes of `text`; raises UnicodeEncodeError, also where the standard library would take a look-alike."""
    if codec == cp50221.NAME:
        return cp50221.encode(text)
    if codec == "euc-jp":
        return _encode_euc(text)
    python = _PYTHON.get(codec, codec)
    raw = text.encode(python)
    if codec != "utf-8":
        _check_exact(text, raw.decode(python), codec)
    return raw


def _check_exact(text: str, back: str, codec: str) -> None:
    if back != text:
        at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), 0)
        raise UnicodeEncodeError(codec, text, at, at + 1, "only a look-alike exists")


def _decode_euc(payload: bytes) -> str:
    try:
        return payload.decode("euc_jp")
    except UnicodeDecodeError:
        pass
    text = []
    at = 0
    while at < len(payload):
        run = _EUC.match(payload, at)
        if run is None:
            raise UnicodeDecodeError("euc-jp", payload, at, at + 1, "illegal multibyte sequence")
        piece = run[0]
        try:
            if piece[0] >= 0xA1:
                text.append(cp50221.text_of(bytes(byte & 0x7F for byte in piece)))
            else:
                text.append(piece.decode("euc_jp"))
        except UnicodeDecodeError as error:
            raise UnicodeDecodeError("euc-jp", payload, at, run.end(), error.reason) from error
        at = run.end()
    return "".join(text)


def _encode_euc(text: str) -> bytes:
    try:
        raw = text.encode("euc_jp")
    except UnicodeEncodeError:
        pass
    else:
        _check_exact(text, raw.decode("euc_jp"), "euc-jp")
        return raw
    out = bytearray()
    for at, character in enumerate(text):
        pair = cp50221.pair_of(character) if character >= "\x80" else None
        if pair:
            out += bytes(byte | 0x80 for byte in pair)
            continue
        try:
            raw = character.encode("euc_jp")
            _check_exact(character, raw.decode("euc_jp"), "euc-jp")
        except UnicodeEncodeError as error:
            raise UnicodeEncodeError("euc-jp", text, at, at + 1, error.reason) from error
        out += raw
    return bytes(out)


# The same character in JIS's and in Microsoft's mapping, and what typists use for characters a codec may lack.
_LOOK_ALIKES: dict[str, tuple[str, ...]] = {
    "～": ("〜", "~"),
    "〜": ("～", "~"),
    "－": ("−", "-"),
    "−": ("－", "-"),
    "∥": ("‖", "||"),
    "‖": ("∥", "||"),
    "￠": ("¢",),
    "¢": ("￠",),
    "￡": ("£",),
    "£": ("￡",),
    "￢": ("¬",),
    "¬": ("￢",),
    "¥": ("￥",),
    "‾": ("￣", "~"),
    "￤": ("|",),
    "—": ("―", "-"),
    "―": ("—", "-"),
    "–": ("−", "－", "-"),
    "‐": ("-",),
    "‑": ("‐", "-"),
    "“": ('"',),
    "”": ('"',),
    "‘": ("'",),
    "’": ("'",),
    "…": ("...",),
    "•": ("・", "*"),
    "・": ("*",),
    "\u00b7": ("・",),
    "©": ("(C)",),
    "®": ("(R)",),
    "™": ("(TM)",),
    "\u00a0": (" ",),
    "\u202f": (" ",),
    "\u3000": ("  ",),
    "\u200b": ("",),
    "\ufeff": ("",),
}


def fold(text: str, codec: str) -> str:
    """`text` with the customary look-alike for each character that the codec lacks; some may be left.

    ISO-2022-JP gets full-width kana for half-width ones, as mail clients send them (code page 50220).
    """
    if codec == cp50221.NAME:
        text = _HALF_KANA.sub(lambda kana: unicodedata.normalize("NFKC", kana[0]), text)
    try:
        encode(text, codec)
    except UnicodeEncodeError:
        pass
    else:
        return text
    text = unicodedata.normalize("NFC", text)  # か + combining dakuten: as some systems write it
    table = {}
    for character in set(text):
        if character in _LOOK_ALIKES and not _encodes(character, codec):
            for alike in _LOOK_ALIKES[character]:
                if _encodes(alike, codec):
                    table[ord(character)] = alike
                    break
    return text.translate(table)


def _encodes(text: str, codec: str) -> bool:
    try:
        encode(text, codec)
    except UnicodeEncodeError:
        return False
    return True


def byte_offset(payload: bytes, codec: str, offset: int) -> int:
    """Where character `offset` of `decode(payload, codec)` begins in `payload`; the text's length gives its end.

    `decode(payload[:result], codec)` is the text before. For ISO-2022-JP the result is in ASCII state wherever that is
    possible: at every start of a line, and at the end, if `settled`. Raises ValueError past the end of the text.
    """
    if codec == cp50221.NAME:
        return cp50221.byte_offset(payload, offset)
    text = decode(payload, codec)
    if not 0 <= offset <= len(text):
        raise ValueError("offset past the end of the text")
    if len(text) == len(payload):
        return offset
    if codec == "utf-8":
        return len(text[:offset].encode())
    if codec == "euc-jp":  # № and some others have two codes, of two and of three bytes
        return sum(len(found[0]) for found in islice(_EUC_CHARACTER.finditer(payload), offset))
    return len(encode(text[:offset], codec))  # a character with several codes has them in one length


def settled(payload: bytes, codec: str) -> bool:
    """Whether text may be put between any two lines, and at the end, without changing its neighbours."""
    return codec != cp50221.NAME or cp50221.settled(payload)
