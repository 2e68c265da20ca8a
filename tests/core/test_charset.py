"""Character sets as Japanese mail carries them."""

from __future__ import annotations

import pytest

from relay_mta.core import charset, cp50221

JIS = "選考結果のお知らせ"
LONG = "慎重に選考を重ねました結果、今回は見送らせていただくこととなりました。"


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("US-ASCII", "ascii"),
        ("utf8", "utf-8"),
        ('"UTF-8"', "utf-8"),
        ("ISO_2022_JP", "iso-2022-jp"),
        ("iso-2022-jp-ms", "iso-2022-jp"),
        ("CP50220", "iso-2022-jp"),
        ("x-sjis", "shift_jis"),
        ("Shift_JIS", "shift_jis"),
        ("windows-31j", "shift_jis"),
        ("MS932", "shift_jis"),
        ("cp932", "shift_jis"),
        ("euc-jp", "euc-jp"),
        ("eucJP-ms", "euc-jp"),
        ("latin1", "iso-8859-1"),
        ("windows-1252", "windows-1252"),
        ("ISO-8859-15", "iso8859_15"),
        ("GB2312", "gb18030"),
        ("EUC-KR", "cp949"),
        ("koi8-r", "koi8_r"),
        ("Windows-1251", "cp1251"),
        ("TIS-620", "tis_620"),
        ("no-such-charset", None),
        ("", None),
        ("x" * 10_000, None),
        ("nul\0", None),
        ("日本語", None),
    ],
)
def test_labels(label: str, codec: str | None) -> None:
    assert charset.by_label(label) == codec


@pytest.mark.parametrize(
    "label", ["utf-7", "utf-16", "utf-16le", "utf-32", "hz-gb-2312", "iso-2022-kr", "hz", "rot13", "base64"]
)
def test_a_set_with_states_or_no_set_at_all_is_not_read(label: str) -> None:
    with pytest.raises(LookupError):
        charset.find(label, b"abc")


@pytest.mark.parametrize(
    ("label", "payload", "codec"),
    [
        (None, b"plain", "ascii"),
        ("utf-8", b"plain", "utf-8"),
        ("iso-2022-jp", b"plain", "iso-2022-jp"),
        (None, JIS.encode("iso2022_jp"), "iso-2022-jp"),
        ("us-ascii", JIS.encode("iso2022_jp"), "iso-2022-jp"),
        ("utf-8", JIS.encode("iso2022_jp"), "iso-2022-jp"),
        ("iso-2022-jp", JIS.encode(), "utf-8"),
        ("iso-2022-jp", LONG.encode("cp932"), "shift_jis"),
        ("us-ascii", JIS.encode(), "utf-8"),
        ("shift_jis", JIS.encode("cp932"), "shift_jis"),
        ("unknown", JIS.encode("cp932"), "shift_jis"),
        ("utf-8", LONG.encode("cp932"), "shift_jis"),
        (None, LONG.encode("cp932"), "shift_jis"),
        (None, LONG.encode("euc_jp"), "euc-jp"),
        (None, "選考結果".encode("euc_jp"), "euc-jp"),
        (None, "選考結果".encode("cp932"), "shift_jis"),
        (None, "株式会社ｱｸﾒ ①".encode("cp932"), "shift_jis"),
        ("latin1", "déjà vu".encode("latin-1"), "iso-8859-1"),
        ("latin1", "it’s".encode("cp1252"), "windows-1252"),
        ("euc-jp", b"\xad\xa1 \xa4\xa2", "euc-jp"),
    ],
)
def test_find_believes_bytes_more_than_labels(label: str | None, payload: bytes, codec: str) -> None:
    assert charset.find(label, payload) == codec
    charset.decode(payload, codec)


@pytest.mark.parametrize(
    ("label", "payload"),
    [
        (None, b"\xff\xfe\x00a"),
        (None, "garçon à Paris, déjà vu".encode("latin-1")),
        (None, "garçon".encode("latin-1")),
        ("utf-8", "あ".encode() + b"\xff"),
        ("utf-8", "あいう".encode()[:-1]),
        ("us-ascii", "Grüße aus Köln".encode("latin-1")),
        ("iso-2022-jp", b"\x1b$B!"),
        ("iso-2022-jp", b"\x1b$A0!\x1b(B"),
        ("iso-2022-jp", b"\x1b$)C\x0e!!\x0f"),
        ("utf-8", b"\x1b$(D0!\x1b(B"),
    ],
)
def test_what_no_character_set_fits_is_not_guessed(label: str | None, payload: bytes) -> None:
    with pytest.raises(LookupError):
        charset.find(label, payload)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("①", b"\x1b$B-!\x1b(B"),
        ("㈱", b"\x1b$B-j\x1b(B"),
        ("№", b"\x1b$B-b\x1b(B"),
        ("髙橋", b"\x1b$B|b66\x1b(B"),
        ("﨑", b"\x1b$Byu\x1b(B"),
        ("ⅳ", b"\x1b$B|t\x1b(B"),
        ("aｱb", b"a\x1b(I1\x1b(Bb"),
        ("ｱ ｲ", b"\x1b(I1\x1b(B \x1b(I2\x1b(B"),
        ("①あ\r\nx", b'\x1b$B-!$"\x1b(B\r\nx'),
        ("〜−‖", b"\x1b$B!A!]!B\x1b(B"),
    ],
)
def test_code_page_50221(text: str, wire: bytes) -> None:
    assert charset.encode(text, "iso-2022-jp") == wire
    assert charset.decode(wire, "iso-2022-jp") == text


def test_a_blank_between_half_width_kana_is_a_blank() -> None:
    assert charset.decode(b"\x1b(I1 2\x1b(B", "iso-2022-jp") == "ｱ ｲ"


def test_every_double_byte_of_code_page_932_has_a_way_through_jis() -> None:
    count = 0
    for lead in [*range(0x81, 0xA0), *range(0xE0, 0xEF)]:
        for trail in range(0x40, 0xFD):
            try:
                text = charset.fold(bytes((lead, trail)).decode("cp932"), "iso-2022-jp")
            except UnicodeDecodeError:
                continue
            assert charset.decode(charset.encode(text, "iso-2022-jp"), "iso-2022-jp") == text
            count += 1
    assert count > 7000


@pytest.mark.parametrize(
    ("payload", "settled"),
    [
        (b"abc\r\n", True),
        (b'\x1b$B$"\x1b(B\r\n', True),
        (b'\x1b$B$"\r\n\x1b(B', False),
        (b'\x1b$B$"', False),
        (b"\x1b(Ja\r\n", False),
        (b"\x1b(Ja\x1b(B\r\n", True),
        (b"", True),
    ],
)
def test_settled(payload: bytes, *, settled: bool) -> None:
    assert charset.settled(payload, "iso-2022-jp") is settled


def test_a_line_starts_before_its_escape_sequence() -> None:
    payload = "あ\r\nい\r\n".encode("iso2022_jp")
    assert charset.byte_offset(payload, "iso-2022-jp", 3) == len("あ\r\n".encode("iso2022_jp"))
    assert charset.byte_offset(payload, "iso-2022-jp", 0) == 0
    assert charset.byte_offset(payload, "iso-2022-jp", 6) == len(payload)


def test_past_the_end_is_an_error() -> None:
    for codec in ("ascii", "utf-8", "iso-2022-jp", "euc-jp"):
        with pytest.raises(ValueError, match="past the end"):
            charset.byte_offset(b"abc", codec, 4)


@pytest.mark.parametrize(
    ("text", "codec", "folded"),
    [
        ("10～12時－", "iso-2022-jp", "10〜12時−"),
        ("10〜12時−", "shift_jis", "10～12時－"),
        ("ｶﾞﾊﾟｱ", "iso-2022-jp", "ガパア"),
        ("ｶﾞﾊﾟｱ", "shift_jis", "ｶﾞﾊﾟｱ"),
        ("か\u3099", "euc-jp", "が"),
        ("—•\u00a0", "iso-2022-jp", "―・ "),
        ("“a”…", "ascii", '"a"...'),
        ("①髙", "iso-2022-jp", "①髙"),
        ("😀", "shift_jis", "😀"),
        ("～", "utf-8", "～"),
    ],
)
def test_fold(text: str, codec: str, folded: str) -> None:
    assert charset.fold(text, codec) == folded


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("〜", "shift_jis"),
        ("¥", "euc-jp"),
        ("①", "ascii"),
        ("～", "iso-2022-jp"),
        ("\x1b$B", "iso-2022-jp"),
        ("😀", "iso-2022-jp"),
    ],
)
def test_no_look_alike_is_written_unasked(text: str, codec: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        charset.encode(text, codec)


def test_runs_begin_in_ascii() -> None:
    assert [run.state for run in cp50221.runs(b'\x1b$B$"\x1b(B')] == ["ascii", "double", "ascii"]


@pytest.mark.parametrize("codec", ["cp932", "utf-8", "euc_jp"])
@pytest.mark.parametrize("label", ["iso-2022-jp", "utf-8", "shift_jis", "euc-jp", None])
def test_a_foreign_name_merged_into_a_jis_text_is_in_no_charset(codec: str, label: str | None) -> None:
    """A form's mailer merges a name in its own charset into a JIS template: both halves cannot be read at once."""
    mixed = "高橋一郎".encode(codec) + " 様、誠に残念ながら".encode("iso2022_jp")
    with pytest.raises(LookupError):
        charset.find(label, mixed)


@pytest.mark.parametrize(
    ("text", "codec", "label", "read"),
    [
        ("髙①", "iso-2022-jp", "ISO-2022-JP", False),
        ("高〜", "iso-2022-jp", "ISO-2022-JP", True),
        ("髙①", "shift_jis", "Shift_JIS", False),
        ("～－", "shift_jis", "Shift_JIS", True),
        ("髙①", "shift_jis", "windows-31j", True),
        ("髙①", "euc-jp", None, False),
        ("栃木", "gb18030", "gb2312", False),
        ("栃木", "gb18030", '"GBK"', True),
        ("・", "gb18030", "gb2312", False),
        ("人才", "gb18030", "gb2312", True),
        ("\U00020bb7", "gb18030", "gbk", False),
        ("\U00020bb7", "gb18030", "gb18030", True),
        ("똠", "cp949", "euc-kr", False),
        ("똠", "cp949", "ks_c_5601-1987", False),
        ("똠", "cp949", "uhc", True),
        ("\U00020bb7髙", "utf-8", "gb2312", True),
        ("x", "ascii", None, True),
    ],
)
def test_what_readers_of_the_label_can_read(text: str, codec: str, label: str | None, read: bool) -> None:
    assert charset.widely_read(charset.encode(text, codec), codec, label) is read


def test_shift_codes_in_ascii_that_is_called_jis_have_no_codec() -> None:
    """Found by fuzzing: SO and SI without any escape sequence passed as JIS and then could not be decoded."""
    with pytest.raises(LookupError):
        charset.find("iso-2022-jp", b"abc \x0e!\x0f def\r\n")


def test_what_was_guessed_must_be_guessed_again() -> None:
    """Found by fuzzing: behind the splice a guess at unlabelled bytes could come out otherwise."""
    kana = "あいう".encode("euc_jp")
    assert charset.agrees(None, kana, "euc-jp") and not charset.agrees(None, kana + b"\xe3", "euc-jp")
    assert not charset.agrees(None, kana, "shift_jis")
