"""Rules that change while mails pass: in force within two seconds, all at once, and never a broken set."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from watchfiles.main import RustNotify

from relay_mta import maillog, process, rulebook, rulefolder, shipped
from relay_mta.app import App
from relay_mta.config import CompanyConfig, Config, ListenerConfig, UpstreamConfig, WebConfig
from relay_mta.core.company import Agency, Company
from relay_mta.core.errors import RuleError
from relay_mta.core.ip import ClientNetwork
from relay_mta.core.rules import RuleSet
from relay_mta.rulebook import Rulebook
from tests.smtp.clients import Dialog
from tests.smtp.peers import OK, ScriptedUpstream
from tests.test_relay import House, mail

SOON = 2.0
"""Within so many seconds a saved file is in force."""

RULE = """
[[rule]]
id = "own-thing"
about = "what these tests look for"
kind = "decline"
weight = {weight}
find = ["採用を見送らせて"]
"""
NO_RULE = '[[rule]]\nid = "own-thing"\nabout = "never"\nkind = "decline"\nweight = 10\nfind = ["zzzz"]\n'


def small(folder: Path, text: str = RULE.format(weight=20)) -> Path:
    """A folder of rules that is compiled in no time: every shipped file is taken out, and one is there instead."""
    folder.mkdir(exist_ok=True)
    for name, _ in shipped.rules():
        (folder / name).write_bytes(b"")
    return save(folder, text)


def save(folder: Path, text: str | bytes, name: str = "90_local.toml") -> Path:
    """Save as editors do: a new file takes the old one's name."""
    path, fresh = folder / name, folder / f"{name}.tmp"
    fresh.write_bytes(text.encode() if isinstance(text, str) else text)
    fresh.rename(path)
    return path


def hash_of(*folders: Path) -> str:
    return rulefolder.load(folders).hash


@asynccontextmanager
async def house(place: Path, folder: Path | None, own: Path | None = None) -> AsyncIterator[House]:
    """A running relay with rule folders."""
    log = io.StringIO()
    maillog.configure(log)
    async with ScriptedUpstream() as upstream:
        agency = Agency("サンプル人材紹介株式会社", "https://agency.example/register")
        acme = Company("acme", "株式会社アクメ", ("acme.example.jp",), agency, mode="relay")
        way = UpstreamConfig("127.0.0.1", upstream.port, "none")
        config = Config(
            hostname="relay.example.jp",
            data_dir=place / "var",
            ledger="tinydb:",
            listeners=(ListenerConfig("127.0.0.1", 0),),
            web=WebConfig("127.0.0.1", 0, "https://relay.example.jp"),
            rules_directory=folder,
            drain_seconds=1.0,
            companies=(CompanyConfig(acme, (ClientNetwork(ip_network("127.0.0.0/8"), shared=False),), way, rules=own),),
        )
        app = App(config)
        await app.start()
        try:
            yield House(app, upstream, log)
        finally:
            await app.stop()


def own_time() -> float:
    """A clock that stands still while this process's threads wait for a CPU that others have (on Linux)."""
    waited = 0
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has ended
            waited += int((thread / "schedstat").read_text().split()[1])  # nanoseconds (the kernel's sched-stats)
    return time.monotonic() - waited / 1e9


async def within(seconds: float, found: Callable[[], Any]) -> None:
    """Wait until `found` is true."""
    began = own_time()
    while not found():
        assert own_time() - began < seconds, "it did not happen in time"
        await asyncio.sleep(0.02)


async def health(house: House) -> dict[str, Any]:
    def get() -> Any:
        with urlopen(f"http://127.0.0.1:{house.app.web_port}/healthz", timeout=10) as answer:
            assert answer.status == 200
            return json.load(answer)

    state: dict[str, Any] = await asyncio.to_thread(get)
    return state


# --- on a running relay ---------------------------------------------------------------------------------------------


async def test_a_saved_file_is_in_force_within_two_seconds_and_no_session_is_lost(tmp_path: Path) -> None:
    """With all the shipped rules, as an admin has them."""
    folder = tmp_path / "rules"
    folder.mkdir()
    save(folder, "[scoring]\nthreshold = 10\n")
    async with house(tmp_path, folder) as relay, Dialog(relay.app.smtp_ports[0]) as client:
        await client.ehlo()
        assert await relay.send(mail()) == OK
        save(folder, "[scoring]\nthreshold = 99\n")
        wanted = hash_of(folder)
        before = relay.app.rulebook.shared.hash
        assert wanted != before
        await within(SOON, lambda: relay.app.rulebook.of("acme").hash == wanted)
        assert (await client.say(b"MAIL FROM:<hr@acme.example.jp>")).startswith(b"250")
        await client.say(b"RCPT TO:<taro@mail.example>")
        await client.say(b"DATA")
        await client.send(mail("X-Second: 1") + b".\r\n")
        assert await client.reply() == OK
        first, second = relay.outcomes()
        assert "disposition=relay" in first and f"rules={before}" in first
        assert "disposition=pass" in second and f"rules={wanted}" in second
        assert (await relay.app.ledger.entries())[0].ruleset == before
        assert f"event=rules-loaded companies=acme rules={wanted}" in relay.log.getvalue()


async def test_a_broken_save_keeps_the_last_good_set_and_says_so_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    small(folder)
    async with house(tmp_path, folder) as relay:
        good = relay.app.rulebook.shared
        assert (await health(relay))["rules"] == {
            **{
                "state": "current",
                "hash": good.hash,
                "problems": [],
                "problem_count": 0,
                "companies": {},
                "trials": {},
                "missed": {},
            },
            "loaded_at": relay.app.rulebook.status()["loaded_at"],
        }
        path = save(folder, '[[rule]]\nid = "own-thing"\nweight = "ten"\n[[rule')
        await within(SOON, lambda: relay.app.rulebook.status()["state"] == "stale")
        assert await relay.send(mail()) == OK
        assert f"rules={good.hash}" in relay.outcomes()[0] and "disposition=relay" in relay.outcomes()[0]
        state = await health(relay)
        assert state["status"] == "ok" and state["rules"]["state"] == "stale"
        assert state["rules"]["hash"] == good.hash
        (problem,) = state["rules"]["problems"]
        assert problem.startswith(f"{path}:4:") and "not TOML" in problem
        (line,) = [line for line in relay.log.getvalue().splitlines() if "event=rules-refused" in line]
        assert "90_local.toml:4" in line and "problems=1" in line and f"rules={good.hash}" in line
        await asyncio.sleep(1.2)  # a look at the folder goes by: said once is enough
        assert relay.log.getvalue().count("event=rules-refused") == 1
        save(folder, RULE.format(weight=20))
        await within(SOON, lambda: relay.app.rulebook.status()["state"] == "current")
        assert relay.app.rulebook.shared.hash == good.hash


@pytest.mark.parametrize("change", ["removed", "emptied", "too-large", "not-utf-8", "circle", "id-twice", "weight"])
async def test_whatever_is_wrong_the_mail_goes_on_with_the_last_good_set(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "rules"
    path = small(folder)
    async with house(tmp_path, folder) as relay:
        good = relay.app.rulebook.shared.hash
        if change == "removed":
            folder.rename(tmp_path / "gone")
        elif change == "emptied":
            for each in folder.iterdir():
                each.unlink()
        elif change == "circle":
            path.unlink()
            path.symlink_to(path)
        else:
            save(
                folder,
                {
                    "too-large": b"#" * (50 << 20),
                    "not-utf-8": b'[[rule]]\nid = "\x90\xdb"\n',
                    "id-twice": (RULE.format(weight=5) * 2).encode(),
                    "weight": RULE.format(weight='"ten"').encode(),
                }[change],
            )
        await within(SOON + 0.5, lambda: relay.app.rulebook.status()["state"] == "stale")
        assert await relay.send(mail()) == OK
        assert f"rules={good}" in relay.outcomes()[0] and "disposition=relay" in relay.outcomes()[0]
        if change == "removed":  # a folder that comes back is another one to the kernel
            (tmp_path / "gone").rename(folder)
            save(folder, RULE.format(weight=21))
            wanted = hash_of(folder)
            await within(SOON + 0.5, lambda: relay.app.rulebook.shared.hash == wanted)
            save(folder, RULE.format(weight=22))
            wanted = hash_of(folder)
            await within(SOON + 0.5, lambda: relay.app.rulebook.shared.hash == wanted)


async def test_twenty_reloads_a_second_under_traffic(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    small(folder)
    texts = [RULE.format(weight=20), NO_RULE, RULE.format(weight=30)]
    hashes = set()
    for text in texts:
        save(folder, text)
        hashes.add(hash_of(folder))
    assert len(hashes) == 3
    async with house(tmp_path, folder) as relay:
        done = 0

        async def reload() -> None:
            nonlocal done
            began = time.monotonic()
            for number in range(60):
                save(folder, texts[number % 3])
                await relay.app.rulebook.reload(again=True)
                done += 1
                await asyncio.sleep(max(0.0, began + (number + 1) / 20 - time.monotonic()))

        async def traffic(client: int) -> int:
            sent = 0
            while not reloading.done():
                assert await relay.send(mail(f"X-Number: {client}-{sent}")) == OK
                sent += 1
            return sent

        began = time.monotonic()
        reloading = asyncio.create_task(reload())
        sent = sum(await asyncio.gather(*(traffic(client) for client in range(4))))
        await reloading
        assert done == 60 and time.monotonic() - began < 30
        outcomes = relay.outcomes()
        assert len(outcomes) == sent >= 20
        named = {re.search(r" rules=(\w+)", line)[1] for line in outcomes}  # type: ignore[index]
        assert named <= hashes and len(named) >= 2
        for line in outcomes:  # judged by the very set that the line names, and wholly
            assert ("disposition=pass" in line) == (f"rules={hash_of_text(texts[1])}" in line)
        assert "event=rules-refused" not in relay.log.getvalue()
        assert "event=defect" not in relay.log.getvalue()


def hash_of_text(text: str) -> str:
    return RuleSet.parse([("90_local.toml", text.encode())]).hash


async def test_twenty_saves_a_second_are_noticed_and_the_last_one_is_in_force(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    small(folder)
    async with house(tmp_path, folder) as relay:
        for number in range(40):
            save(folder, RULE.format(weight=20 + number))
            await asyncio.sleep(0.05)
        wanted = hash_of(folder)
        await within(SOON, lambda: relay.app.rulebook.shared.hash == wanted)
        assert relay.log.getvalue().count("event=rules-loaded") >= 3  # it does not wait for the end of the storm


async def test_a_mail_in_flight_keeps_the_set_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "rules"
    small(folder)
    async with house(tmp_path, folder) as relay:
        first = relay.app.rulebook.shared
        hold, save_now = relay.app.ledger.hold, asyncio.Event()

        async def slow_hold(candidacy: Any) -> Any:
            save(folder, NO_RULE)
            await relay.app.rulebook.reload()
            assert relay.app.rulebook.shared is not first
            save_now.set()
            return await hold(candidacy)

        monkeypatch.setattr(relay.app.ledger, "hold", slow_hold)
        assert await relay.send(mail()) == OK
        assert save_now.is_set()
        assert f"rules={first.hash}" in relay.outcomes()[0]
        assert {entry.ruleset for entry in await relay.app.ledger.entries()} <= {first.hash, ""}


async def test_a_company_has_rules_of_its_own(tmp_path: Path) -> None:
    folder, own = tmp_path / "rules", tmp_path / "acme"
    small(folder)
    own.mkdir()
    save(own, "[scoring]\nthreshold = 99\n", "95_acme.toml")
    async with house(tmp_path, folder, own) as relay:
        assert relay.app.rulebook.shared.hash == hash_of(folder)
        assert relay.app.rulebook.of("acme").hash == hash_of(folder, own) != hash_of(folder)
        await relay.send(mail())
        assert "disposition=pass" in relay.outcomes()[0] and f"rules={hash_of(folder, own)}" in relay.outcomes()[0]
        save(own, "[scoring]\nthreshold = 1\n", "95_acme.toml")
        await within(SOON, lambda: relay.app.rulebook.of("acme").threshold == 1)
        shared = relay.app.rulebook.shared
        save(own, "[scoring", "95_acme.toml")  # broken for one company: the others still get theirs
        save(folder, RULE.format(weight=30))
        await within(SOON, lambda: relay.app.rulebook.shared is not shared)
        state = (await health(relay))["rules"]
        assert state["state"] == "stale" and "95_acme.toml:1" in state["problems"][0]
        assert state["companies"]["acme"]["hash"] == relay.app.rulebook.of("acme").hash != state["hash"]
        assert relay.app.rulebook.of("acme").threshold == 1


async def test_a_rule_on_probation_is_logged_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    trial = RULE.replace("own-thing", "T_trial").replace('"decline"', '"hint"').format(weight=1)
    small(folder, RULE.format(weight=20) + trial)
    async with house(tmp_path, folder) as relay:
        await relay.send(mail())
        await relay.send(mail(body="来週の打ち合わせの件、承知しました。\r\n"))
        first, second = relay.outcomes()
        assert "disposition=relay" in first and first.endswith(" trials=T_trial")
        assert "trials" not in second
        assert (await health(relay))["rules"]["trials"] == {"T_trial": 1}


async def test_a_change_behind_a_link_is_found_by_looking(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    small(folder)
    target = tmp_path / "elsewhere.toml"
    target.write_text(RULE.format(weight=20))
    (folder / "90_local.toml").unlink()
    (folder / "90_local.toml").symlink_to(target)
    async with house(tmp_path, folder) as relay:
        await asyncio.sleep(0.2)
        target.write_text(RULE.format(weight=55))
        wanted = hash_of(folder)
        await within(SOON, lambda: relay.app.rulebook.shared.hash == wanted)


async def test_without_looking_notifications_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    def notify(*args: Any) -> RustNotify:
        made = RustNotify(*args)
        begun.set()  # from here on the kernel keeps what it has to tell
        return made

    monkeypatch.setattr("watchfiles.main.RustNotify", notify)
    monkeypatch.setattr(rulefolder, "stamp", lambda _: ())
    folder = tmp_path / "rules"
    small(folder)
    async with house(tmp_path, folder) as relay:
        await begun.wait()
        for weight in (55, 66):
            save(folder, RULE.format(weight=weight))
            wanted = hash_of(folder)
            await within(SOON, lambda wanted=wanted: relay.app.rulebook.shared.hash == wanted)


async def test_without_notifications_looking_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError("no inotify to be had")

    monkeypatch.setattr(rulebook, "awatch", none)
    folder = tmp_path / "rules"
    small(folder)
    async with house(tmp_path, folder) as relay:
        save(folder, RULE.format(weight=55))
        wanted = hash_of(folder)
        await within(SOON, lambda: relay.app.rulebook.shared.hash == wanted)


# --- the book by itself ---------------------------------------------------------------------------------------------


async def test_a_broken_file_refuses_the_start(tmp_path: Path) -> None:
    small(tmp_path / "rules", "[[rule")
    with pytest.raises(RuleError, match=r"90_local\.toml:1"):
        await Rulebook((tmp_path / "rules",), {}).open()


async def test_a_defect_of_ours_while_loading_keeps_the_last_good_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    maillog.configure(log)
    folder = tmp_path / "rules"
    small(folder)
    book = Rulebook((folder,), {"acme": (folder,)})
    await book.open()
    good = book.shared

    def fail(_: object) -> None:
        raise KeyError("text of a file")

    with monkeypatch.context() as patch:
        patch.setattr(rulefolder, "parse", fail)
        save(folder, RULE.format(weight=33))
        await book.reload()
    assert book.shared is good and book.status()["state"] == "stale"
    assert "event=defect" in log.getvalue() and "text of a file" not in log.getvalue()
    await book.reload()
    assert book.status()["state"] == "current" and book.shared is not good


async def test_files_that_read_as_before_are_not_loaded_again(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    small(folder)
    book = Rulebook((folder,), {"acme": (folder,), "other": ()})
    await book.open()
    good, of_other = book.shared, book.of("other")
    assert book.of("acme") is good and of_other is not good  # one set for all that have the same folders
    save(folder, RULE.format(weight=20))
    await book.reload()
    assert book.shared is good
    await book.reload(again=True)
    assert book.shared is not good and book.shared.hash == good.hash


# --- signals --------------------------------------------------------------------------------------------------------


@contextmanager
def signals_restored() -> Iterator[None]:
    kept = {name: signal.getsignal(name) for name in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)


async def test_sighup_reads_the_rules_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "rules"
    small(folder)
    made: list[App] = []

    async def unwatched(_: Rulebook) -> None:
        await asyncio.Event().wait()

    class Kept(App):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            made.append(self)

    monkeypatch.setattr(Rulebook, "watch", unwatched)
    monkeypatch.setattr(process, "App", Kept)
    log = io.StringIO()
    maillog.configure(log)
    async with ScriptedUpstream() as upstream:
        agency = Agency("サンプル人材紹介株式会社", "https://agency.example/register")
        acme = Company("acme", "株式会社アクメ", ("acme.example.jp",), agency, mode="relay")
        way = UpstreamConfig("127.0.0.1", upstream.port, "none")
        config = Config(
            hostname="relay.example.jp",
            data_dir=tmp_path / "var",
            ledger="tinydb:",
            listeners=(ListenerConfig("127.0.0.1", 0),),
            web=WebConfig("127.0.0.1", 0, "https://relay.example.jp"),
            rules_directory=folder,
            drain_seconds=1.0,
            companies=(CompanyConfig(acme, (ClientNetwork(ip_network("127.0.0.0/8"), shared=False),), way),),
        )
        with signals_restored():
            serving: Awaitable[int] = asyncio.ensure_future(process._serve(config))
            await within(10, lambda: "event=started" in log.getvalue())
            before = made[0].rulebook.shared
            os.kill(os.getpid(), signal.SIGHUP)
            await within(SOON, lambda: made[0].rulebook.shared is not before)
            assert made[0].rulebook.shared.hash == before.hash
            save(folder, RULE.format(weight=44))
            wanted = hash_of(folder)
            os.kill(os.getpid(), signal.SIGHUP)
            await within(SOON, lambda: made[0].rulebook.shared.hash == wanted)
            os.kill(os.getpid(), signal.SIGTERM)
            assert await serving == 0
