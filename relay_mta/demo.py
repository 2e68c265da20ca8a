"""The newcomer's first minute: an upstream that captures, the relay and the web, on free ports of this machine.

A dozen realistic mails are sent with a real SMTP client, and what arrived is compared byte for byte with what was sent
and with what samples.toml says. Nothing but loopback is used; the ledger lies in a temporary folder that is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import html
import http.client
import io
import re
import signal
import smtplib
import socket
import tempfile
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relay_mta import maillog, shipped
from relay_mta.app import App
from relay_mta.config import Config, parse
from relay_mta.core.credit import balance
from relay_mta.core.link import own_links
from relay_mta.core.message import index
from relay_mta.examine import Examination, Examiner

CONFIG = """\
hostname = "relay.example.jp"
data_dir = "{data_dir}"

[[listener]]
address = "127.0.0.1:0"

[web]
address = "127.0.0.1:{web_port}"
base_url = "http://127.0.0.1:{web_port}"

[[company]]
id = "acme"
name = "株式会社アクメ"
domains = ["acme.example.jp"]
partners = ["agent.example"]
mode = "relay"
clients = ["127.0.0.0/8"]
upstream = {{ host = "127.0.0.1", port = {upstream_port}, tls = "none" }}
agency = {{ name = "サンプル人材紹介株式会社", url = "https://agency.example/register" }}

[[company.credits]]
from = 2026-01-01
relays_per_credit = 10
earn_on = "relayed"
"""

SHOWN = "05-rejection-en-text.eml", "01-rejection-ja-jis-text.eml"
"""The sample whose before and after is shown; the next one if the first was not changed."""

_RECEIVED = re.compile(rb"\AReceived:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


@dataclass(frozen=True, slots=True)
class Sample:
    """One mail of samples.toml: `linked` are the recipients who must get a copy with a link of their own."""

    file: str
    title: str
    reverse_path: str
    recipients: tuple[str, ...]
    linked: tuple[str, ...]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """One mail that the upstream accepted, without the relay's `Received` field; its bytes beyond the original."""

    recipients: tuple[str, ...]
    raw: bytes
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one sample. `wrong` says what is not as it should be; empty if all is well."""

    sample: Sample
    found: Examination
    arrivals: tuple[Arrival, ...]
    wrong: tuple[str, ...]


@dataclass
class Capture:
    """The company's outbound server, as far as the demo needs one: it keeps what it gets."""

    arrived: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # aiosmtpd's name
        self.arrived.append((tuple(envelope.rcpt_tos), bytes(envelope.original_content)))
        return "250 2.0.0 Ok"


async def run(console: Console, *, keep: bool = False) -> bool:
    """Play the demo; True if every mail did what its sample says it should."""
    with tempfile.TemporaryDirectory(prefix="relay-mta-demo-") as folder:
        async with _running(Path(folder)) as (app, config, capture):
            console.print(_heading(app), Text())
            examiner = Examiner.from_config(config)
            results = [await _play(sample, app, capture, examiner, config.web.base_url) for sample in samples()]
            console.print(_table(results), Text())
            console.print(_before_and_after(results), Text())
            console.print(await _books(app, config))
            opened = await asyncio.to_thread(_open_a_link, app.web_port, results)
            console.print(opened.text)
            as_expected = opened.ok and not any(result.wrong for result in results)
            console.print(_conclusion(results, link_opened=opened.ok))
            if keep:
                ended = asyncio.Event()
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
                console.print(_kept(app, opened.url))
                with contextlib.suppress(asyncio.CancelledError):
                    await ended.wait()
    return as_expected


def samples() -> list[Sample]:
    """The sample mails that come with the program, in the order of samples.toml."""
    mails = dict(shipped.samples())
    notes = tomllib.loads(shipped.sample_notes().decode("utf-8"))["sample"]
    return [
        Sample(
            file=note["file"],
            title=note["title"],
            reverse_path=note["reverse_path"],
            recipients=tuple(note["recipients"]),
            linked=tuple(note["linked"]),
            raw=mails[note["file"]],
        )
        for note in notes
    ]


# --- what runs ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[tuple[App, Config, Capture]]:
    maillog.configure(io.StringIO())  # the outcome lines would stand between the tables
    capture = Capture()
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(
        lambda: SMTP(capture, hostname="outbound.example.jp", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0
    )
    try:
        text = CONFIG.format(
            data_dir=folder / "var", web_port=_free_port(), upstream_port=upstream.sockets[0].getsockname()[1]
        )
        config = parse(text, source=folder / "config.toml")
        app = App(config)
        await app.start()
        try:
            yield app, config, capture
        finally:
            await app.stop()
    finally:
        upstream.close()
        await upstream.wait_closed()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# --- one mail -------------------------------------------------------------------------------------------------------


async def _play(sample: Sample, app: App, capture: Capture, examiner: Examiner, base_url: str) -> Result:
    capture.arrived.clear()
    trouble = await asyncio.to_thread(_send, sample, app.smtp_ports[0])
    arrivals = tuple(_arrival(recipients, raw, base_url) for recipients, raw in capture.arrived)
    found = examiner.examine(sample.raw, sample.recipients)
    return Result(sample, found, arrivals, tuple(_wrong(sample, arrivals, trouble)))


def _send(sample: Sample, port: int) -> str:
    """Send one mail as a mail client would; what the relay said if it did not accept it."""
    try:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example", timeout=30) as client:
            client.sendmail(sample.reverse_path, sample.recipients, sample.raw)
    except (smtplib.SMTPException, OSError) as error:
        return f"not accepted: {error}"
    return ""


def _arrival(recipients: tuple[str, ...], raw: bytes, base_url: str) -> Arrival:
    raw = _RECEIVED.sub(b"", raw, count=1)
    tokens: list[str] = []
    for text in index(raw).texts:
        links = own_links(text.text, base_url)
        tokens += [token for token in links if token not in tokens]
    return Arrival(recipients, raw, tuple(tokens))


def _wrong(sample: Sample, arrivals: Sequence[Arrival], trouble: str) -> Iterator[str]:
    """What did not happen as samples.toml says."""
    if trouble:
        yield trouble
    reached = sorted(recipient for arrival in arrivals for recipient in arrival.recipients)
    if reached != sorted(sample.recipients):
        yield f"reached {len(reached)} of {len(sample.recipients)} recipients"
    for arrival in arrivals:
        wanted = any(recipient in sample.linked for recipient in arrival.recipients)
        if wanted and len(arrival.tokens) != 1:
            yield "no link"
        if wanted and len(arrival.recipients) > 1:
            yield "one link for several recipients"
        if not wanted and arrival.raw != sample.raw:
            yield "changed bytes"


# --- what is shown --------------------------------------------------------------------------------------------------


def _heading(app: App) -> Panel:
    text = Text.assemble(
        "mail client  ─►  ", ("relay-mta", "bold"), f" on 127.0.0.1:{app.smtp_ports[0]}  ─►  outbound server\n\n",
        "Every mail passes through untouched, except a job rejection to a candidate:\n",
        "it leaves with a link of the candidate's own, and the ledger counts it.",
    )  # fmt: skip
    return Panel(text, title="relay-mta demo", expand=False)


def _plain_table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _table(results: Sequence[Result]) -> Table:
    """Mail, verdict, why, and for each copy how many bytes it has more than the original; 0: the same bytes."""
    table = _plain_table("What became of each mail")
    table.add_column("Mail", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Why", overflow="fold")
    table.add_column("Bytes\nchanged", justify="right")
    for result in results:
        verdict = result.found.verdict
        style = {"rejection": "magenta", "exempt": "yellow"}.get(verdict, "green")
        title = Text.assemble(("✗ ", "bold red") if result.wrong else ("✓ ", "green"), result.sample.title)
        why = Text(result.found.reason.removeprefix("decline:"))
        if result.wrong:
            why.append(f"\n{'; '.join(result.wrong)}", "bold red")
        table.add_row(title, Text(verdict, style), why, _changed(result))
    return table


def _changed(result: Result) -> str:
    original = result.sample.raw
    sizes = [len(arrival.raw) - len(original) for arrival in result.arrivals]
    return " and ".join(
        "0" if arrival.raw == original else f"{size:+d}" for arrival, size in zip(result.arrivals, sizes, strict=True)
    )


def _before_and_after(results: Sequence[Result]) -> Text | Panel:
    """The decoded text of one rejection, before and after."""
    by_file = {result.sample.file: result for result in results}
    for name in SHOWN:
        result = by_file.get(name)
        linked = [arrival for arrival in result.arrivals if arrival.tokens] if result else []
        if result and linked:
            before, after = (index(raw).texts[0].text.splitlines() for raw in (result.sample.raw, linked[0].raw))
            lines = Text()
            for line in difflib.ndiff(before, after):
                if not line.startswith("?"):
                    lines.append(line + "\n", {"+": "bold green", "-": "bold red"}.get(line[0], "dim"))
            return Panel(lines, title=f"Before and after: {result.sample.title}", expand=False)
    return Text("No rejection was changed.", "bold red")


async def _books(app: App, config: Config) -> Group:
    """The ledger's entries and what they add up to."""
    entries = await app.ledger.entries()
    table = _plain_table("The ledger: append-only entries, and what they add up to")
    for heading in ("#", "Entry", "Relay", "Verdict", "When (UTC)"):
        table.add_column(heading)
    for entry in entries:
        style = "green" if entry.kind == "relayed" else "dim"
        table.add_row(str(entry.seq), Text(entry.kind, style), entry.relay[:8], entry.verdict, entry.at[:19])
    terms = config.companies[0].company.credits
    sums = balance(entries, terms, datetime.now(UTC))
    line = Text.assemble(
        ("Balance: ", "bold"), f"{sums.relays} candidates relayed, {sums.counted} counted; ",
        f"{sums.credits_earned} credits earned, {sums.to_next} to the next.\n",
    )  # fmt: skip
    return Group(table, Text(), line)


@dataclass(frozen=True, slots=True)
class _Opened:
    ok: bool
    url: str
    text: Text


def _open_a_link(port: int, results: Sequence[Result]) -> _Opened:
    """Open the first link that arrived in a mail, as the candidate's browser would."""
    tokens = [token for result in results for arrival in result.arrivals for token in arrival.tokens]
    if not tokens:
        return _Opened(False, "", Text("There is no link to open.", "bold red"))
    path = f"/r/{tokens[0]}"
    link = f"http://127.0.0.1:{port}{path}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept-Language": "en"})
        page = connection.getresponse()
        body = page.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return _Opened(False, link, Text(f"GET {link} failed: {error}", "bold red"))
    finally:
        connection.close()
    title = re.search(r"<title>(.*?)</title>", body, re.DOTALL)
    ok = page.status == http.client.OK
    shown = f"GET {link}\n  {page.status} {page.reason}: {html.unescape(title[1]).strip() if title else 'no title'}"
    return _Opened(ok, link, Text(shown, "" if ok else "bold red"))


def _conclusion(results: Sequence[Result], *, link_opened: bool) -> Text:
    wrong = [result for result in results if result.wrong]
    if wrong:
        return Text(f"{len(wrong)} of {len(results)} mails did not do what their sample says.", "bold red")
    if not link_opened:
        return Text("All mails did what they should, but the link does not open.", "bold red")
    return Text(f"All {len(results)} mails did what they should, and the link opens.", "bold green")


def _kept(app: App, link: str) -> Text:
    return Text.assemble(
        "\nStill running, until Ctrl-C:\n",
        f"  a link          {link}\n",
        f"  send your own   swaks --server 127.0.0.1:{app.smtp_ports[0]}"
        " --from you@acme.example.jp --to taro@mail.example",
    )
