"""Whose an address is, and what a header's list names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core.address import MAX_HEADER_CHARS, addresses, domain_of, listed, person, same_path, within


@pytest.mark.parametrize(
    ("path", "domain"),
    [
        ("a@Example.JP", "example.jp"),
        ('"a@b"@x.example', "x.example"),
        ("postmaster", ""),
        ("", ""),
        ("a@x.example.", "x.example"),
    ],
)
def test_domain_of(path: str, domain: str) -> None:
    assert domain_of(path) == domain


def test_sub_domains_belong_and_look_alikes_do_not() -> None:
    assert within("acme.example", ["acme.example"])
    assert within("mail.hr.acme.example", ["acme.example"])
    assert not within("notacme.example", ["acme.example"])
    assert not within("acme.example.evil.example", ["acme.example"])
    assert not within("", ["acme.example"])


def test_listed_takes_addresses_and_domains() -> None:
    entries = ("agent.example", "someone@free.example")
    assert listed("X@Tokyo.Agent.Example", entries)
    assert listed("Someone@Free.Example", entries)
    assert not listed("other@free.example", entries)


def test_same_path_keeps_the_local_part() -> None:
    assert same_path("a@X.example") == same_path("a@x.EXAMPLE.")
    assert same_path("A@x.example") != same_path("a@x.example")
    assert same_path("@relay.example,@b.example:a@x.example") == "a@x.example"
    assert same_path('"c."@docomo.example') == '"c."@docomo.example'
    assert person("A@x.example") == person("a@X.EXAMPLE")


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("a@x.example", ("a@x.example",)),
        (" Taro Yamada <a@x.example>, b@y.example ", ("a@x.example", "b@y.example")),
        ('"Yamada, Taro" <a@x.example>', ("a@x.example",)),
        ('"he said \\"a@b\\"" <a@x.example>', ("a@x.example",)),
        ("a@x.example (Yamada, Taro (HR))", ("a@x.example",)),
        ("=?UTF-8?B?5bGx55Sw?= <a@x.example>", ("a@x.example",)),
        ("山田 太郎 <a@x.example>", ("a@x.example",)),
        ('"c."@docomo.example', ('"c."@docomo.example',)),
        ("c..d.@docomo.example", ("c..d.@docomo.example",)),
        (", a@x.example,,", ("a@x.example",)),
        ("", ()),
    ],
)
def test_lists_that_read_one_way(value: str, paths: tuple[str, ...]) -> None:
    read = addresses(value)
    assert read.paths == paths
    assert not read.odd


@pytest.mark.parametrize(
    "value",
    [
        "Team: a@x.example, b@y.example;",
        "<@route.example:a@x.example>",
        "a@x.example <b@y.example>, <c@z.example",
        '"unbalanced <a@x.example>',
        "a (b <c@d.example>",
        "<a@x.example> <b@y.example>",
        "<a<b@x.example>>",
        "not an address",
        "a b@x.example",
        "a@x.example, " * (MAX_HEADER_CHARS // 12),
    ],
)
def test_anything_else_is_odd(value: str) -> None:
    assert addresses(value).odd


@given(st.text(alphabet='ab@<>"(),:;\\ \t.é', max_size=60))
def test_any_text_is_read_without_an_error(value: str) -> None:
    read = addresses(value)
    assert all(isinstance(path, str) for path in read.paths)


@given(
    st.lists(st.from_regex(r"\A[a-z]{1,8}@[a-z]{1,8}\.example\Z"), max_size=8),
    st.sampled_from(["", "Name ", '"N, M" ', "(c,d) "]),
)
def test_what_is_joined_is_found_again(paths: list[str], name: str) -> None:
    read = addresses(", ".join(f"{name}<{path}>" for path in paths))
    assert read.paths == tuple(paths)
    assert not read.odd
