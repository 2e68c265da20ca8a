"""Paths and parameters: taken verbatim, or not taken at all, in linear time."""

from __future__ import annotations

import time

import pytest

from relay_mta.smtp.commands import path_argument, split


@pytest.mark.parametrize(
    ("argument", "path", "params"),
    [
        ("FROM:<a@b.test>", "a@b.test", ()),
        ("from:<>", "", ()),
        ("FROM: <a@b>", "a@b", ()),
        ("FROM:<c.@docomo.test>", "c.@docomo.test", ()),
        ('FROM:<"c."@docomo.test> SIZE=3', '"c."@docomo.test', ("SIZE=3",)),
        ('FROM:<"a b>\\"<c"@d.test>', '"a b>\\"<c"@d.test', ()),
        ("FROM:<@a.test,@b.test:c@d.test>", "@a.test,@b.test:c@d.test", ()),
        ("FROM:<利用者@例え.test> SMTPUTF8", "利用者@例え.test", ("SMTPUTF8",)),
        ("FROM:<a@b>  RET=HDRS \t ENVID=Qq+3D  AUTH=<>", "a@b", ("RET=HDRS", "ENVID=Qq+3D", "AUTH=<>")),
        ("FROM:<a@b> MT-PRIORITY=3 body=8bitMIME", "a@b", ("MT-PRIORITY=3", "body=8bitMIME")),
        ("FROM:<a(c)@b>", "a(c)@b", ()),
        ("FROM:<a@[IPv6:::1]>", "a@[IPv6:::1]", ()),
        ("FROM:<x,y@z>", "x,y@z", ()),
        ("FROM:<a\udcff@b>", "a\udcff@b", ()),
        ("FROM:a@b", "a@b", ()),
        ("FROM: a@b SIZE=100", "a@b", ("SIZE=100",)),
        ("FROM:< a@b >", "a@b", ()),
        ("FROM:< >", "", ()),
    ],
)
def test_verbatim(argument: str, path: str, params: tuple[str, ...]) -> None:
    found = path_argument(argument, "FROM:")
    assert found is not None
    assert (found.path, found.params) == (path, params)


@pytest.mark.parametrize(
    "argument",
    [
        "FROM:",
        "FROM:a@b,c@d",
        "FROM:Group:a@b;",
        'FROM:"a"@b',
        "FROM:<a@b",
        "FROM:a@b>",
        "FROM:<a@b>SIZE=3",
        "FROM:<a b@c>",
        "FROM:<a<b@c>",
        "FROM:<a\x01@b>",
        'FROM:<"a\x1b"@b>',
        'FROM:<"a@b>',
        "FROM:<a@b> X=\x7f",
        "FROM:<a@b>>",
    ],
)
def test_malformed(argument: str) -> None:
    with pytest.raises(ValueError):
        path_argument(argument, "FROM:")


@pytest.mark.parametrize("argument", ["", "FROM", "TO:<a@b>", "FROM :<a@b>", "X FROM:<a@b>"])
def test_another_command(argument: str) -> None:
    assert path_argument(argument, "FROM:") is None


def test_size() -> None:
    sizes = {
        "SIZE=12": 12,
        "size=0": 0,
        "SIZE": None,
        "SIZE=-1": None,
        "SIZE=x": None,
        "SIZE=" + "9" * 5000: None,
        "SIZE=１２": None,
    }
    for param, size in sizes.items():
        found = path_argument(f"FROM:<a@b> BODY=7BIT {param}", "FROM:")
        assert found is not None
        assert found.size == size


def test_split() -> None:
    assert split(b"mail FROM:<a\xff@b> ") == ("MAIL", "FROM:<a\udcff@b>")
    assert split(b"NOOP") == ("NOOP", "")
    assert split(b" \tMAIL\tFROM:<a@b>\tSIZE=1 ") == ("MAIL", "FROM:<a@b>\tSIZE=1")
    assert split("r\u017fet".encode()) == ("r\u017fet", "")
    assert split("ＥＨＬＯ x".encode()) == ("ＥＨＬＯ", "x")


@pytest.mark.parametrize("piece", ['"', '\\"', '"\\', "<", '<"', "a", '""', " ", "\\"])
def test_linear(piece: str) -> None:
    argument = "FROM:<" + piece * (200_000 // len(piece))
    start = time.perf_counter()
    with pytest.raises(ValueError):
        path_argument(argument, "FROM:")
    assert time.perf_counter() - start < 2
