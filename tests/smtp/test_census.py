"""How many clients are in: never more than there are places, and every place that was taken is given back."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.smtp.census import Census
from tests.smtp.clients import Dialog
from tests.smtp.fronts import Recorder, stand, until

V4 = ["192.0.2.1", "192.0.2.2", "127.0.0.1", "::ffff:192.0.2.1", "::FFFF:c000:202"]
V6 = ["2001:db8::1", "2001:db8::ffff:ffff:1:2", "2001:db8:0:1::1", "fe80::1%eth0", "fe80::2%eth1", "::1"]
few = st.sampled_from([*V4, *V6, "", "somewhere"])


def client_of(address: str) -> str:
    """Whose address it is, worked out another way than the census does."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return f"4 {int(parsed)}"
    if parsed.packed[:12] == b"\0" * 10 + b"\xff\xff":
        return f"4 {int.from_bytes(parsed.packed[12:], 'big')}"
    return f"6 {parsed.packed[:8].hex()}"


@given(st.integers(0, 6), st.integers(0, 4), st.lists(st.tuples(few, st.booleans()), max_size=60))
def test_never_more_than_there_are_places_and_never_fewer(
    total: int, per_client: int, steps: list[tuple[str, bool]]
) -> None:
    census = Census(total, per_client)
    inside: list[str] = []
    for address, comes in steps:
        if comes:
            there = Counter(map(client_of, inside))[client_of(address)]
            free = len(inside) < total and there < per_client
            assert census.enter(address) is free
            inside += [address] * free
        elif address in inside:
            inside.remove(address)
            census.leave(address)
        assert census.present == len(inside) <= total
        assert max(Counter(map(client_of, inside)).values(), default=0) <= per_client
    for address in inside:
        census.leave(address)
    assert census.present == 0 and census._of == {}  # nothing is kept of whoever was here


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_64_is_one_client(network: int, one: int, other: int) -> None:
    first, second = (str(IPv6Address(network << 64 | host)) for host in (one, other))
    if any(IPv6Address(address).ipv4_mapped for address in (first, second)):
        return
    census = Census(9, 1)
    assert census.enter(first)
    assert not census.enter(second)
    census.leave(second)  # whichever of them leaves
    assert census.enter(first)


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_a_mapped_address_is_the_ipv4_client(one: IPv4Address, other: IPv4Address) -> None:
    """A listener on [::] sees IPv4 clients so; their /64 is everybody's."""
    census = Census(9, 1)
    assert census.enter(f"::ffff:{one}")
    assert census.enter(str(other)) is (one != other)


def test_neighbours_are_not_one_client() -> None:
    census = Census(9, 1)
    for address in ("2001:db8::1", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2", "::1", "0.0.0.0"):
        assert census.enter(address)


def test_a_zone_makes_no_other_client() -> None:
    census = Census(9, 1)
    assert census.enter("fe80::1%eth0")
    assert not census.enter("fe80::1%25eth1")


async def test_listeners_share_one() -> None:
    census = Census(3, 3)
    async with stand(Recorder(), census=census) as one, stand(Recorder(), census=census) as other:
        async with Dialog(one.port), Dialog(other.port), Dialog(one.port) as last:
            for it in (one, other):
                async with Dialog(it.port) as fourth:
                    assert fourth.greeting.startswith(b"421 4.3.2 Too many connections")
                    assert await fourth.at_end()
            assert census.present == 3
            await last.say(b"QUIT")
            await until(lambda: census.present == 2)
            async with Dialog(other.port) as again:
                assert again.greeting.startswith(b"220")
        await until(lambda: census.present == 0)


async def test_one_client_does_not_take_every_place() -> None:
    census = Census(10, 2)
    async with stand(Recorder(), census=census) as it, Dialog(it.port), Dialog(it.port):
        async with Dialog(it.port) as third:
            assert third.greeting.startswith(b"421")
        assert census.enter("192.0.2.1")  # others still find one


@pytest.mark.parametrize("how", ["quit", "abort", "refused", "greeting"])
async def test_a_place_is_given_back_however_a_session_ends(how: str) -> None:
    class Broken(Recorder):
        def conversation(self, client: object) -> Recorder:
            raise KeyError

    census = Census(5, 5)
    front = Broken() if how == "greeting" else Recorder()
    async with stand(front, census=census) as it:
        for _ in range(7):
            async with Dialog(it.port) as client:
                assert client.greeting.startswith(b"451" if how == "greeting" else b"220")
                if how == "quit":
                    await client.say(b"QUIT")
                elif how == "refused":
                    await client.send(b"GET / HTTP/1.1\r\n")
            await until(lambda: it.listener.sessions == 0)
            assert census.present == 0
        it.errors.clear()


async def test_a_place_is_given_back_by_a_session_that_is_cut_off() -> None:
    census = Census(5, 5)
    front = Recorder(before_reply=asyncio.Event().wait)
    async with stand(front, census=census) as it, Dialog(it.port) as client:
        await client.envelope()
        await client.send(b"x\r\n.\r\n")
        await until(lambda: front.mails)
        assert await it.listener.drain(0.05) == 1
    assert census.present == 0
