"""Header values and their parameters as text."""

from __future__ import annotations

import pytest

from relay_mta.core import header, parameter

VALUES = [
    (b"hello", "hello"),
    (b"  hello \t", "hello"),
    (b"a\r\n b\r\n\tc", "a b c"),
    (b"=?UTF-8?B?6YG46ICD?=", "選考"),
    (b"=?utf-8?q?=E9=81=B8_x?= y", "選 x y"),
    (b"=?UTF-8?B?6YG4?=\r\n =?UTF-8?B?6ICD?=", "選考"),
    (b"=?UTF-8?B?6Q==?= =?utf-8?B?gbg=?=", "選"),
    (b"=?UTF-8?B?6YG4?= and =?UTF-8?B?6ICD?=", "選 and 考"),
    (b"=?UTF-8*ja?B?6YG4?=", "選"),
    (b"=?ISO-2022-JP?B?GyRCQSo5TRsoQg==?= =?ISO-2022-JP?B?GyRCN2syTBsoQg==?=", "選考結果"),
    (b"=?ISO-2022-JP?B?GyRCLSEbKEI=?=", "①"),
    (b"=?Shift_JIS?B?kUmNbA==?=", "選考"),
    (b"=?CP932?B?h0A=?=", "①"),
    (b"=?x-nobody-knows?B?6YG4?=", "選"),
    (b"=?utf-7?Q?+AGE-?=", "+AGE-"),
    (b"=?utf-8?q?a=0D=0ABcc:_evil?=", "aBcc: evil"),
    (b"=?utf-8?B?!!!?=", ""),
    (b"=?utf-8?B?6YG4", "=?utf-8?B?6YG4"),
    (b"=??B?6YG4?=", "=??B?6YG4?="),
    ("選考".encode(), "選考"),
    ("選考結果のお知らせ".encode("iso2022_jp"), "選考結果のお知らせ"),
    ("選考結果のお知らせ".encode("cp932"), "選考結果のお知らせ"),
    ("選考結果のお知らせ".encode("euc_jp"), "選考結果のお知らせ"),
    (b"a\x00b\x7fc", "abc"),
    (b"\xff", "\ufffd"),
    (b'"=?UTF-8?B?6YG4?=" <a@b.example>', '"選" <a@b.example>'),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_header_values(value: bytes, text: str) -> None:
    assert header.text(value) == text


@pytest.mark.parametrize(
    ("value", "filename"),
    [
        (b"attachment; filename=a.pdf", "a.pdf"),
        (b'attachment; filename="a b.pdf"', "a b.pdf"),
        (b"attachment; filename=a b.pdf", "a b.pdf"),
        (b'attachment; filename="a\\"b.pdf"', 'a"b.pdf'),
        (b"attachment; filename*=UTF-8''%E9%81%B8.pdf", "選.pdf"),
        (b"attachment; filename=\"x.pdf\"; filename*=UTF-8''%E9%81%B8.pdf", "選.pdf"),
        (b"attachment; filename*=iso-2022-jp'ja'%1B$BA*9M%1B(B.pdf", "選考.pdf"),
        (b"attachment; filename*0*=UTF-8''%E9%81; filename*1*=%B8; filename*2=.pdf", "選.pdf"),
        (b'attachment; filename="=?UTF-8?B?6YG4?=\r\n =?UTF-8?B?6ICD?="', "選考"),
        (b'attachment; filename="' + "表.pdf".encode("cp932") + b'"', "表.pdf"),
        (b'attachment; filename="' + '選「".pdf'.encode("iso2022_jp") + b'"', '選「".pdf'),
        (b"attachment; filename*=%zz", "%zz"),
        (b"attachment", None),
        (b"attachment;", None),
    ],
)
def test_file_names(value: bytes, filename: str | None) -> None:
    assert parameter.parse(value).values.get("filename") == filename
