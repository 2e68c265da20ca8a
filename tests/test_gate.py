"""Who a client may be, by where it connected and from which address, and what such a client is offered."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core import sasl
from relay_mta.core.company import Agency, Company
from relay_mta.core.envelope import Client
from relay_mta.core.ip import ClientNetwork
from relay_mta.gate import CARRIED, Gate, admitted, common_extensions, common_mechanisms


def gate(id: str = "acme", *networks: str, shared: tuple[str, ...] = (), **more: Any) -> Gate:
    company = Company(id=id, name=id, domains=(f"{id}.example",), agency=Agency("a", "https://agency.example/"))
    known = [ClientNetwork(ip_network(each)) for each in networks]
    known += [ClientNetwork(ip_network(each), shared=True) for each in shared]
    return Gate(company, tuple(known), None, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("networks", "shared", "address", "strangers"),
    [
        (("192.0.2.0/24",), (), "192.0.2.70", False),
        ((), ("192.0.2.0/24",), "192.0.2.70", True),
        (("192.0.2.70/32",), ("192.0.2.0/24",), "192.0.2.70", False),
        (("192.0.2.0/24",), ("192.0.2.64/26",), "192.0.2.70", True),
        (("192.0.2.0/24",), ("192.0.2.64/26",), "192.0.2.7", False),
        (("192.0.2.0/24",), ("192.0.2.0/24",), "192.0.2.70", True),
        (("2001:db8::/32",), ("2001:db8:1::/48",), "2001:db8:1::1%eth0", True),
        (("192.0.2.0/24",), (), "::ffff:192.0.2.70", False),
        (("192.0.2.0/24",), (), "198.51.100.1", True),
        ((), (), "", True),
    ],
)
def test_the_narrowest_network_says_whether_strangers_send_from_there(
    networks: tuple[str, ...], shared: tuple[str, ...], address: str, strangers: bool
) -> None:
    assert gate("acme", *networks, shared=shared).shared(Client(address)) is strangers


@pytest.mark.parametrize(
    "address", ["", "nonsense", "/run/socket", "198.51.100.1", "2001:db8::1", "::ffff:198.51.100.1"]
)
def test_who_is_in_no_network_is_nobody(address: str) -> None:
    assert admitted([gate("acme", "192.0.2.0/24")], Client(address)).possible == ()


def test_a_listener_serves_its_own_companies_alone() -> None:
    acme, beta = gate("acme", "192.0.2.0/24", listeners=frozenset({"a"})), gate("beta", "192.0.2.0/24", auth="users")
    there = admitted([acme, beta], Client("192.0.2.1", listener="b"))
    assert (there.by_network, there.by_login, there.possible) == ((beta,), (beta,), (beta,))
    here = admitted([acme, beta], Client("192.0.2.1", listener="a"))
    assert here.possible == (acme, beta)


SENDERS = [
    ("hr@acme.example", "acme"),
    ("HR@Sub.ACME.example.", "acme"),
    ("hr@beta.example", "beta"),
    ("hr@notacme.example", None),
    ("hr@acme.example.evil.test", None),
    ("hr@evil.test@acme.example", "acme"),
    ("acme.example", None),
    ("@acme.example", "acme"),
    ("", None),
]


@pytest.mark.parametrize(("path", "whose"), SENDERS)
def test_of_two_companies_the_domain_decides(path: str, whose: str | None) -> None:
    both = [gate("acme", "192.0.2.0/24", auth="users"), gate("beta", "192.0.2.0/24", auth="users")]
    admission = admitted(both, Client("192.0.2.1"))
    for found in (admission.of_sender(path), admission.of_login(path)):
        assert (found.company.id if found else None) == whose


@pytest.mark.parametrize("path", [path for path, _ in SENDERS])
def test_one_company_alone_sends_whatever_its_people_send(path: str) -> None:
    (acme,) = only = [gate("acme", "192.0.2.0/24", auth="users")]
    admission = admitted(only, Client("192.0.2.1"))
    assert admission.of_sender(path) is admission.of_login(path) is acme


OFFERS = st.none() | st.dictionaries(
    st.sampled_from((*CARRIED, "PIPELINING", "CHUNKING", "AUTH", "STARTTLS")), st.just("")
).flatmap(
    lambda found: st.sampled_from(["", "0", "1000", "99999999", "no number"]).map(lambda size: {**found, "SIZE": size})
)


@given(st.lists(OFFERS, min_size=1, max_size=4))
def test_offered_is_what_all_can_and_the_smallest_size(offers: list[dict[str, str] | None]) -> None:
    gates = [gate(str(i), extensions=each) for i, each in enumerate(offers)]
    found = common_extensions(gates, 50_000)
    for name in CARRIED:
        assert (name in found) == all(name in each for each in offers if each is not None)
    limits = [int(each["SIZE"]) for each in offers if each and each["SIZE"] in ("1000", "99999999")]
    assert int(found["SIZE"]) == min([50_000, *limits])
    assert set(found) <= {*CARRIED, "SIZE"}


def test_size_is_not_offered_where_an_upstream_does_not_know_it() -> None:
    assert "SIZE" not in common_extensions([gate(extensions={"SIZE": "10"}), gate("beta", extensions={})], 100)


@pytest.mark.parametrize(
    ("auth", "offered", "taken"),
    [
        ("none", {"AUTH": "PLAIN"}, ()),
        ("users", {"AUTH": "XOAUTH2"}, ("PLAIN", "LOGIN")),
        ("users", None, ("PLAIN", "LOGIN")),
        ("upstream", None, ("PLAIN", "LOGIN")),
        ("upstream", {}, ()),
        ("upstream", {"AUTH": "cram-md5 login GSSAPI xoauth2"}, ("LOGIN", "XOAUTH2")),
    ],
)
def test_a_client_may_log_in_by_what_its_company_takes(auth: Any, offered: Any, taken: tuple[str, ...]) -> None:
    assert gate(auth=auth, extensions=offered).mechanisms == taken


def test_of_several_companies_only_what_all_of_them_take_is_offered() -> None:
    upstream = gate(auth="upstream", extensions={"AUTH": "PLAIN XOAUTH2"})
    assert common_mechanisms([upstream, gate("beta", auth="users")]) == ("PLAIN",)
    assert common_mechanisms([]) == ()
    assert set(common_mechanisms([upstream])) <= set(sasl.CARRIED)
