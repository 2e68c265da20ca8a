"""A candidate's link: its form, and finding our own ones in a mail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core import link

BASE = "https://relay.example.jp"
TOKEN = link.token(bytes(range(16)))


@given(st.binary(min_size=16, max_size=16))
def test_a_token_is_26_characters_that_survive_everything(random: bytes) -> None:
    made = link.token(random)
    assert link.is_token(made)
    assert len(made) == 26
    assert made.isascii() and made.isalnum() and made == made.lower()


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_no_random_bit_is_lost(one: bytes, other: bytes) -> None:
    assert (link.token(one) == link.token(other)) == (one == other)


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_token_takes_128_bits_and_no_other_number(length: int) -> None:
    with pytest.raises(ValueError, match="16 random bytes"):
        link.token(b"x" * length)


@pytest.mark.parametrize("text", ["", "a" * 25, "a" * 27, "A" * 26, "a" * 25 + "1", "a" * 25 + "\n", "a" * 25 + "é"])
def test_what_is_no_token(text: str) -> None:
    assert not link.is_token(text)


def test_the_url() -> None:
    assert link.url(BASE, TOKEN) == f"https://relay.example.jp/r/{TOKEN}"


@pytest.mark.parametrize(
    "text",
    [
        f"{BASE}/r/{TOKEN}",
        f"see {BASE}/r/{TOKEN}.",
        f'<a href="{BASE}/r/{TOKEN}">',
        f"<{BASE}/r/{TOKEN}>",
        f"下の{BASE}/r/{TOKEN}をご覧ください",
        f"HTTPS://Relay.EXAMPLE.jp/r/{TOKEN}?x=1",
        f"{BASE}/r/{TOKEN}\r\n> {BASE}/r/{TOKEN}",
        f'<a href="{BASE}/r/{TOKEN}">{BASE}/r/{TOKEN}</a>',
    ],
)
def test_our_own_link_is_found_once(text: str) -> None:
    assert link.own_links(text, BASE) == (TOKEN,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{BASE}/r/{TOKEN}a",
        f"{BASE}/r/{TOKEN[:-1]}",
        f"{BASE}/r/{TOKEN.upper()}",
        f"{BASE}/R/{TOKEN}",
        f"{BASE}/c/{TOKEN}",
        f"http://relay.example.jp/r/{TOKEN}",
        f"https://relayXexample.jp/r/{TOKEN}",
        f"https://relay.example.jp.evil.example/r/{TOKEN}",
        f"xhttps://relay.example.jp/r/{TOKEN}",
    ],
)
def test_what_is_not_our_own_link(text: str) -> None:
    assert link.own_links(text, BASE) == ()


def test_several_links_in_their_order_and_a_base_with_a_path() -> None:
    other = link.token(b"\xff" * 16)
    base = "https://example.jp:8443/relay"
    text = f"{base}/r/{other} {base}/r/{TOKEN} {base}/r/{other}"
    assert link.own_links(text, base) == (other, TOKEN)
    assert link.own_links(text, "https://example.jp:8443") == ()
