"""Which company a client is, with several in one relay: by listener, network, login or sender; and that each company's
mail goes to its own upstream and into its own books, and to no other's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay_mta.config import ListenerConfig
from tests.houses import IN_CLEAR, Houses, firm, houses, kept, mailed
from tests.smtp.peers import OK, ScriptedUpstream
from tests.test_relay import HARMLESS, TARO, mail

ACME, BETA = "hr@acme.example.jp", "hr@beta.example.jp"
USERS = {"acme": {ACME: "acme's"}, "beta": {BETA: "beta's"}}
NOBODY: tuple[str, ...] = ()
NOT_A_SENDER = b"550 5.7.1 This sender is not allowed to send through this server\r\n"
NO_LOGIN = b"530 5.7.0 Authentication required\r\n"
STRANGER = b"554 5.7.1 You are not allowed to send through this server\r\n"


@dataclass
class Pair:
    """Acme and Beta in one relay, each with an upstream of its own."""

    relay: Houses
    acme: ScriptedUpstream
    beta: ScriptedUpstream

    def went(self) -> tuple[int, int]:
        """Mails that Acme's and Beta's upstreams have."""
        return len(self.acme.accepted), len(self.beta.accepted)


@asynccontextmanager
async def pair(
    place: Path,
    acme: dict[str, Any],
    beta: dict[str, Any],
    *,
    listeners: Sequence[ListenerConfig] = (IN_CLEAR,),
    users: bool = False,
    extensions: tuple[Sequence[str], Sequence[str]] | None = None,
) -> AsyncIterator[Pair]:
    offers = extensions or (("SIZE 1000000", "8BITMIME"),) * 2
    async with (
        ScriptedUpstream(users=USERS["acme"] if users else None, extensions=offers[0]) as one,
        ScriptedUpstream(users=USERS["beta"] if users else None, extensions=offers[1]) as two,
        houses(
            place,
            firm(one, "acme", **acme),
            firm(two, "beta", domains=("beta.example.jp",), **beta),
            listeners=listeners,
        ) as relay,
    ):
        yield Pair(relay, one, two)


def rejection(sender: str) -> bytes:
    return mail().replace(ACME.encode(), sender.encode())


async def test_by_network(tmp_path: Path) -> None:
    async with pair(tmp_path, {"networks": ("127.0.1.0/24",)}, {"networks": ("127.0.2.0/24",)}) as both:
        assert await both.relay.send(HARMLESS, sender=ACME, source="127.0.1.1") == OK
        assert await both.relay.send(HARMLESS, sender=BETA, source="127.0.2.1") == OK
        assert both.went() == (1, 1)
        # Whatever it calls its sender: a network that is one company's sends as that company.
        assert await both.relay.send(HARMLESS, sender=ACME, source="127.0.2.1") == OK
        assert await both.relay.send(HARMLESS, sender="", source="127.0.2.1") == OK
        assert both.went() == (1, 3)
        assert await both.relay.send(HARMLESS, sender=ACME, source="127.0.3.1") == STRANGER


async def test_by_listener(tmp_path: Path) -> None:
    listeners = (
        ListenerConfig("127.0.0.1", 0, companies=("acme",)),
        ListenerConfig("localhost", 0, companies=("beta",)),
    )
    async with pair(tmp_path, {}, {}, listeners=listeners) as both:
        for sender in (ACME, BETA, "", "x@elsewhere.example"):
            assert await both.relay.send(HARMLESS, sender=sender, listener=0) == OK
        assert both.went() == (4, 0)
        assert await both.relay.send(HARMLESS, sender=ACME, listener=1) == OK
        assert both.went() == (4, 1)


async def test_by_the_senders_domain_in_a_network_of_both(tmp_path: Path) -> None:
    async with pair(tmp_path, {}, {}) as both:
        assert await both.relay.send(HARMLESS, sender=ACME) == OK
        assert await both.relay.send(HARMLESS, sender="HR@Sub.Beta.Example.JP") == OK
        assert both.went() == (1, 1)
        for sender in ("mallory@evil.example", "", "hr@acme.example.jp.evil.example"):
            assert await both.relay.send(HARMLESS, sender=sender) == NOT_A_SENDER
        assert both.went() == (1, 1)


async def test_a_session_may_send_for_one_company_and_then_for_the_other(tmp_path: Path) -> None:
    async with pair(tmp_path, {}, {}) as both:
        async with both.relay.dialog() as client:
            await client.ehlo()
            for number in range(3):
                assert await mailed(client, rejection(ACME), sender=ACME) == OK
                assert await client.say(b"MAIL FROM:<mallory@evil.example>") == NOT_A_SENDER
                assert await mailed(client, rejection(BETA), sender=BETA) == OK
                assert both.went() == (number + 1, number + 1)
        assert {entry.company for entry in await both.relay.app.ledger.entries()} == {"acme", "beta"}
        assert all(sent.mail == f"MAIL FROM:<{ACME}>".encode() for sent in both.acme.accepted)
        assert all(sent.mail == f"MAIL FROM:<{BETA}>".encode() for sent in both.beta.accepted)


async def test_by_the_logins_domain(tmp_path: Path) -> None:
    everyone = {"auth": "upstream", "networks": NOBODY}
    async with pair(tmp_path, everyone, everyone, users=True) as both:
        for login, password, sender in ((ACME, "acme's", ACME), (BETA, "beta's", ACME)):
            async with both.relay.dialog() as client:
                await client.ehlo()
                assert (await client.log_in(login, password)).startswith(b"235 ")
                assert await mailed(client, rejection(sender), sender=sender) == OK
        assert both.went() == (1, 1)
        assert [sent.login for sent in (*both.acme.accepted, *both.beta.accepted)] == [ACME, BETA]
        assert {entry.company for entry in await both.relay.app.ledger.entries()} == {"acme", "beta"}


async def test_a_login_of_no_company_is_refused_and_no_upstream_hears_of_it(tmp_path: Path) -> None:
    everyone = {"auth": "upstream", "networks": NOBODY}
    async with pair(tmp_path, everyone, everyone, users=True) as both, both.relay.dialog() as client:
        await client.ehlo()
        for login in ("mallory@evil.example", "hr", "hr@acme.example.jp@evil.example"):
            assert (await client.log_in(login, "acme's")).startswith(b"535 5.7.8 ")
            if login != "hr@acme.example.jp@evil.example":
                assert await client.say(f"MAIL FROM:<{ACME}>".encode()) == NO_LOGIN
        assert not any(line.startswith(b"AUTH") for each in (both.acme, both.beta) for line in each.commands)


async def test_without_a_login_nobody_outside_the_networks_sends(tmp_path: Path) -> None:
    everyone = {"auth": "upstream", "networks": NOBODY}
    async with pair(tmp_path, everyone, {"networks": NOBODY, "auth": "none"}, users=True) as both:
        for sender in (ACME, BETA, ""):
            assert await both.relay.send(HARMLESS, sender=sender) == NO_LOGIN
        assert all(len(each.peers) <= 1 for each in (both.acme, both.beta)), "the probes alone"


async def test_a_login_counts_for_more_than_the_network(tmp_path: Path) -> None:
    acme = {"auth": "upstream", "networks": NOBODY}
    async with pair(tmp_path, acme, {}, users=False) as both:
        both.acme.users = USERS["acme"]
        both.relay.gate("acme").learn({"AUTH": "PLAIN"})
        async with both.relay.dialog() as client:
            await client.ehlo()
            assert await mailed(client, rejection(BETA), sender=BETA) == OK
            assert (await client.log_in(ACME, "acme's")).startswith(b"235 ")
            assert await mailed(client, rejection(ACME), sender=ACME) == OK
            assert await mailed(client, rejection(BETA), sender=BETA) == OK
        assert both.went() == (2, 1)
        assert [sent.login for sent in both.acme.accepted] == [ACME, ACME]


async def test_a_refused_login_leaves_the_network_what_it_was(tmp_path: Path) -> None:
    acme = {"auth": "upstream", "networks": NOBODY}
    async with pair(tmp_path, acme, {}, users=False) as both:
        both.acme.users = USERS["acme"]
        both.relay.gate("acme").learn({"AUTH": "PLAIN"})
        async with both.relay.dialog() as client:
            await client.ehlo()
            assert (await client.log_in(ACME, "wrong")).startswith(b"535")
            assert await mailed(client, rejection(ACME), sender=ACME) == OK  # from Beta's network, so as Beta
        assert both.went() == (0, 1)


async def test_a_login_needs_no_proof_in_a_network_of_strangers(tmp_path: Path) -> None:
    proof = ("x-acme-relay", kept(tmp_path, "proof", "s3cret"))
    acme = {"auth": "upstream", "networks": NOBODY, "shared": ("127.0.0.0/8",), "proof": proof}
    async with pair(tmp_path, acme, {"networks": ("127.0.9.0/24",)}, users=True) as both:
        both.acme.script[b"MAIL"] = OK  # with a login or without one
        async with both.relay.dialog() as client:
            await client.ehlo()
            assert (await mailed(client, rejection(ACME), sender=ACME)).startswith(b"550 5.7.1 ")
            assert (await client.log_in(ACME, "acme's")).startswith(b"235 ")
            assert await mailed(client, rejection(ACME), sender=ACME) == OK
        assert both.went() == (1, 0)


async def test_of_two_tenants_of_one_provider_each_proves_itself_by_its_own_secret(tmp_path: Path) -> None:
    secrets = {id: ("x-relay", kept(tmp_path, id, f"{id}-s3cret")) for id in ("acme", "beta")}
    there = {"networks": NOBODY, "shared": ("127.0.0.0/8",)}
    async with pair(tmp_path, {**there, "proof": secrets["acme"]}, {**there, "proof": secrets["beta"]}) as both:

        def proven(sender: str, secret: str) -> bytes:
            return mail(f"X-Relay: {secret}-s3cret").replace(ACME.encode(), sender.encode())

        assert await both.relay.send(proven(ACME, "acme"), sender=ACME) == OK
        assert await both.relay.send(proven(BETA, "beta"), sender=BETA) == OK
        for author, secret, sender in ((ACME, "beta", ACME), (BETA, "beta", ACME), (ACME, "acme", BETA)):
            assert (await both.relay.send(proven(author, secret), sender=sender)).startswith(b"550 5.7.1 ")
        assert await both.relay.send(proven(ACME, "acme"), sender="") == NOT_A_SENDER
        assert both.went() == (1, 1)


# --- what is offered ------------------------------------------------------------------------------------------------


async def test_ehlo_offers_what_every_possible_company_can(tmp_path: Path) -> None:
    offers = (("SIZE 5000", "8BITMIME", "DSN"), ("SIZE 3000", "8BITMIME", "SMTPUTF8"))
    acme = {"networks": ("127.0.1.0/24", "127.0.3.0/24")}
    beta = {"networks": ("127.0.2.0/24", "127.0.3.0/24")}
    async with pair(tmp_path, acme, beta, extensions=offers) as both:
        for source, expected in (
            ("127.0.1.1", {b"SIZE 5000", b"8BITMIME", b"DSN"}),
            ("127.0.2.1", {b"SIZE 3000", b"8BITMIME", b"SMTPUTF8"}),
            ("127.0.3.1", {b"SIZE 3000", b"8BITMIME"}),
        ):
            async with both.relay.dialog(source=source) as client:
                assert set(await client.ehlo()) - {b"PIPELINING", b"ENHANCEDSTATUSCODES"} == expected


async def test_ehlo_behind_a_login_offers_what_that_company_can(tmp_path: Path) -> None:
    offers = (("SIZE 5000", "DSN"), ("SIZE 3000", "SMTPUTF8"))
    everyone = {"auth": "upstream", "networks": NOBODY}
    both = pair(tmp_path, everyone, everyone, extensions=offers, users=True)
    async with both as here, here.relay.dialog() as client:
        before = await client.ehlo()
        assert b"SIZE 3000" in before and b"DSN" not in before
        await client.log_in(ACME, "acme's")
        after = await client.ehlo()
        assert b"SIZE 5000" in after and b"DSN" in after and b"SMTPUTF8" not in after


async def test_a_parameter_that_one_company_lacks_is_451_there_alone(tmp_path: Path) -> None:
    """It was offered before Beta's upstream was known."""
    async with pair(tmp_path, {}, {}, extensions=(("DSN", "SIZE 1"), ("SIZE 1",))) as both:
        both.relay.gate("beta").extensions = None
        async with both.relay.dialog() as client:
            assert b"DSN" in await client.ehlo()
            assert (await client.say(f"MAIL FROM:<{BETA}> RET=HDRS".encode())).startswith(b"451 4.5.4 ")
            assert await client.say(f"MAIL FROM:<{ACME}> RET=HDRS".encode()) == OK


# --- whatever clients do --------------------------------------------------------------------------------------------

STEP = st.sampled_from(
    ["acme mail", "beta mail", "null", "foreign", "acme login", "beta login", "wrong", "ehlo", "rset"]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(STEP, min_size=1, max_size=7), min_size=1, max_size=4), st.booleans())
def test_no_mail_ever_goes_to_another_company(tmp_path_factory: Any, clients: list[list[str]], few: bool) -> None:
    asyncio.run(_wander(tmp_path_factory.mktemp("pair"), clients, few=few))


async def _wander(place: Path, clients: list[list[str]], *, few: bool) -> None:
    """Each mail says in its text as whom its client may send; each upstream looks at what it got."""
    to = {"max_connections": 2 if few else 20, "wait": 10.0}
    async with pair(place, {"auth": "upstream", "to": to}, {"auth": "upstream", "to": to}) as both:
        for id, upstream in (("acme", both.acme), ("beta", both.beta)):
            upstream.users = USERS[id]
            upstream.script[b"MAIL"] = OK  # with a login or without one
            both.relay.gate(id).learn({"AUTH": "PLAIN"})

        numbers = itertools.count()

        async def wander(steps: list[str]) -> None:
            company: str | None = None
            mistyped = False
            async with both.relay.dialog() as client:
                await client.ehlo()
                for step in steps:
                    who, _, what = step.partition(" ")
                    if what == "login":
                        answer = await client.log_in(*next(iter(USERS[who].items())))
                        assert answer[:3] == (b"503" if company else b"235")
                        company = company or who
                    elif step == "wrong":
                        if not mistyped:  # the next one would be answered late
                            assert (await client.log_in(ACME, "wrong"))[:3] == (b"503" if company else b"535")
                        mistyped = True
                    elif step in ("ehlo", "rset"):
                        await client.say(b"EHLO again" if step == "ehlo" else b"RSET")
                    else:
                        sender = {"acme": ACME, "beta": BETA, "null": "", "foreign": "m@evil.example"}[who]
                        whose = company or (who if what == "mail" else None)
                        text = mail(f"X-Whose: {whose} {'in' if company else 'out'}", f"X-Number: {next(numbers)}")
                        answer = await mailed(client, text, TARO, sender=sender)
                        assert answer == (OK if whose else NOT_A_SENDER)

        await asyncio.gather(*(wander(steps) for steps in clients))
        for id, upstream in (("acme", both.acme), ("beta", both.beta)):
            for sent in upstream.accepted:
                logged_in = f"X-Whose: {id} in\r\n".encode() in sent.raw
                assert logged_in or f"X-Whose: {id} out\r\n".encode() in sent.raw
                assert sent.login == (next(iter(USERS[id])) if logged_in else None)
        assert "event=defect" not in both.relay.log.getvalue()
