"""What the relay takes and how long a mail waits where it meets its clients: with a real process and a real upstream.

    python tests/bench/measure_edge.py [PART …] [--connections 2000] [--mails 400] [--rounds 3]

PART is any of idle, latency, memory, fairness, slow, files; all of them without one. The upstream is Postfix's
smtp-sink; "direct" is the same client at smtp-sink itself, in turns with "relayed". What counts are the differences and
ratios of one run: absolute times say more about the machine. Each line ends with what is asked of the relay.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.measure_judging import BUSINESS, HEAD, PLAIN, REJECTION, filled, mails  # noqa: E402  (as above)
from tests.bench.parties import (  # noqa: E402  (the checkout goes before an installed copy)
    Client,
    allow_files,
    at,
    configured,
    cpu,
    elsewhere,
    memory,
    serving,
    settled,
    sink,
    slow_upstream,
    stream,
    trusting,
    whole,
)
from tests.e2e.process import BASE_CONFIG, Relay  # noqa: E402  (as above)

MB, KB = 1e6, 1e3
SMALL = (HEAD.format("Re: meeting") + PLAIN + filled(BUSINESS, 4_000)).encode()
LARGE = mails()["10 MB attachment"]
PER_ADDRESS = 2000
"""Idle connections from one loopback address: fewer than the kernel has ports for."""


def rejection(number: int) -> tuple[bytes, str]:
    """The mail to a candidate who has had none yet, and their address."""
    raw = (HEAD.format("result") + PLAIN + filled(REJECTION, 4_000) + f"({number})\r\n").encode()
    return raw, f"taro{number}@mail.example"


def row(name: str, measured: str, asked: str = "") -> None:
    print(f"{name:52}{measured:>44}   {asked}".rstrip(), flush=True)


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


class Bench:
    """The arguments, and a new folder for each relay."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.options = options
        self._place = place
        self._count = 0

    def relay(self, upstream_port: int, *, files: int | None = None, **values: object) -> Relay:
        self._count += 1
        folder = self._place / str(self._count)
        folder.mkdir()
        return Relay(folder, configured(BASE_CONFIG, **values), upstream_port=upstream_port, files=files)


def idle(bench: Bench) -> None:
    """Idle connections: memory of each, and how long a new mail takes meanwhile."""
    for tls in (False, True):
        idle_on(bench, bench.options.connections, tls=tls)


def idle_on(bench: Bench, number: int, *, tls: bool) -> tuple[float, int]:
    """kB for each idle connection, and how many of them are answered in the end."""
    context = trusting() if tls else None
    kind = "STARTTLS" if tls else "plaintext"
    places = number + 100
    limits = {"max_connections": places, "max_connections_per_client": places, "command_timeout": '"60min"'}

    def come(n: int) -> Client:
        return Client(relay.smtp_port, source=f"127.0.1.{1 + n // PER_ADDRESS}", tls=context)

    def new_mails() -> list[float]:
        return [whole(relay.smtp_port, SMALL, context) for _ in range(bench.options.mails)]

    with sink() as upstream, serving(bench.relay(upstream, starttls=tls, **limits)) as relay, ExitStack() as stack:
        alone = new_mails()
        before = settled(relay)
        with ThreadPoolExecutor(8) as pool:
            clients = [stack.enter_context(client) for client in pool.map(come, range(number))]
        each = (settled(relay) - before) / number / KB
        row(f"{number} idle, {kind}: memory of each", f"{each:.1f} kB", "≤ 20 kB")
        beside = new_mails()
        for name, times in (("no one idle", alone), (f"{number} idle", beside)):
            text = f"p50 {at(times, 0.5):.1f} ms, p99 {at(times, 0.99):.1f} ms"
            row(f"  a new mail from connecting on, {name}", text, "p99 < 50 ms" if times is beside else "")
        served = sum(client.say(b"NOOP")[:3] == b"250" for client in clients)
        row("  answered in the end", f"{served} of {number}", "all")
        return each, served


def latency(bench: Bench) -> None:
    """From the final dot to the 250, direct and relayed, one mail at a time on one connection."""
    count = iter(range(10**9))
    ways: dict[str, Callable[[], float]] = {}
    found: dict[str, list[list[float]]] = {}
    spent: dict[str, float] = {}
    with sink() as upstream, serving(bench.relay(upstream)) as relay:
        with Client(upstream) as direct, Client(relay.smtp_port) as relayed:
            ways["direct"] = lambda: direct.mail(SMALL)
            ways["relayed, harmless"] = lambda: relayed.mail(SMALL)
            ways["relayed, rejection"] = lambda: relayed.mail(*rejection(next(count)))
            for way in ways.values():  # the first mails find nothing warm
                for _ in range(20):
                    way()
            for _ in range(bench.options.rounds):
                for name, way in ways.items():
                    before = cpu(relay)
                    found.setdefault(name, []).append([way() for _ in range(bench.options.mails)])
                    spent[name] = spent.get(name, 0.0) + cpu(relay) - before
        relay.stop()
        linked = sum(entry["kind"] == "relayed" for entry in relay.entries())
    for name, rounds in found.items():
        middle, most = (median(at(times, share) for times in rounds) for share in (0.5, 0.99))
        row(f"final dot to 250, {name}", f"p50 {middle:.2f} ms, p99 {most:.2f} ms")
        if name == "direct":
            base = rounds
            continue
        added, tail = (
            median(at(times, share) - at(bare, share) for times, bare in zip(rounds, base, strict=True))
            for share in (0.5, 0.99)
        )
        row(
            "  CPU time of the relay", f"{spent[name] / bench.options.rounds / bench.options.mails * 1e3:.2f} ms a mail"
        )
        row("  added by the relay", f"p50 {added:.2f} ms, p99 {tail:.2f} ms", "≤ 5 ms, ≤ 50 ms")
    row("  rejections that got their link", f"{linked} of {next(count)}", "all")


def memory_of_mails(bench: Bench) -> None:
    """100 clients that each hold a 10 MB mail before its last line, and then all finish."""
    number = 100
    with sink() as upstream:
        for budget in ("512MiB", "1GiB", "2GiB"):
            places = {"max_connections_per_client": number + 10, "upstream_connections": number + 10}
            with serving(bench.relay(upstream, memory_budget=f'"{budget}"', **places)) as relay:
                hold(relay, number, f"{number} hold 10 MB, memory_budget {budget}{' (default)' * (budget == '1GiB')}")


def hold(relay: Relay, number: int, name: str) -> None:
    before = settled(relay)
    cut = len(LARGE) - 70

    def begin(_: int) -> tuple[Client, bytes]:
        client = Client(relay.smtp_port)
        answer = client.begin(len(LARGE), "sato@other.example")
        if answer[:3] == b"354":
            client.send(memoryview(LARGE)[:cut])
        return client, answer

    def finish(held: tuple[Client, bytes]) -> bytes:
        client, answer = held
        with client:
            if answer[:3] == b"354":
                client.send(LARGE[cut:] + b".\r\n")
                answer = client.reply()
            return answer[:3]

    with ThreadPoolExecutor(number) as pool:
        clients = list(pool.map(begin, range(number)))
        holding = settled(relay)
        answers = Counter(pool.map(finish, clients))
    said = ", ".join(f"{count} × {code.decode()}" for code, count in sorted(answers.items()))
    row(name, f"holding {holding / MB:.0f} MB, peak {memory(relay, 'VmHWM') / MB:.0f} MB", "< 1300 MB")
    row("  answers", said)
    row("  memory before, and when all is done", f"{before / MB:.0f} MB, {settled(relay) / MB:.0f} MB")


def fairness(bench: Bench) -> None:
    """Small mails while two clients stream 10 MB mails, direct and relayed."""
    found: dict[str, list[list[float]]] = {"direct": [], "relayed": []}
    with sink() as upstream, serving(bench.relay(upstream)) as relay:
        for _ in range(bench.options.rounds):
            for name, port in (("direct", upstream), ("relayed", relay.smtp_port)):
                with elsewhere(stream, port, LARGE), elsewhere(stream, port, LARGE):
                    time.sleep(1)
                    found[name].append([whole(port, SMALL) for _ in range(bench.options.mails)])
    for name, rounds in found.items():
        middle, most = (median(at(times, share) for times in rounds) for share in (0.5, 0.95))
        row(f"small mail beside two of 10 MB, {name}", f"p50 {middle:.1f} ms, p95 {most:.1f} ms")
    pairs = zip(found["relayed"], found["direct"], strict=True)
    row("  p95, relayed / direct", f"{median(at(r, 0.95) / at(d, 0.95) for r, d in pairs):.2f}", "≤ 1.5")


def slow(bench: Bench) -> None:
    """20 clients send 10 MB mails, three each, to an upstream that reads 2 MB/s on each connection."""
    number, each = 20, 3

    def send(_: int) -> None:
        with Client(relay.smtp_port) as client:
            for _ in range(each):
                client.mail(LARGE)

    with slow_upstream(2_000_000) as upstream, serving(bench.relay(upstream)) as relay:
        before, start = settled(relay), time.monotonic()
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(send, range(number)))
        seconds = time.monotonic() - start
        peak = memory(relay, "VmHWM")
        row(f"upstream reads 2 MB/s, {number} clients × {each} of 10 MB", f"{seconds:.0f} s, peak {peak / MB:.0f} MB")
        row("  over the idle relay, / the mails at once", f"{(peak - before) / (number * len(LARGE)):.2f}", "bounded")


def files(bench: Bench) -> None:
    """64 file descriptors, 200 connections tried and released: a client that is in meanwhile, a new mail afterwards."""
    with sink() as upstream, serving(bench.relay(upstream, files=64, max_connections_per_client=400)) as relay:
        waits: list[float] = []
        with Client(relay.smtp_port) as early, ExitStack() as crowd:
            for _ in range(200):
                crowd.enter_context(socket.create_connection(("127.0.0.1", relay.smtp_port)))
            spent, end = cpu(relay), time.monotonic() + 5
            while (start := time.monotonic()) < end:
                early.say(b"NOOP")
                waits.append(time.monotonic() - start)
                time.sleep(0.02)
            spent = cpu(relay) - spent
        start = time.monotonic()
        whole(relay.smtp_port, SMALL)
        row("64 files, 200 connections: a new mail after they left", f"{time.monotonic() - start:.2f} s", "accepted")
        text = f"p50 {at(waits, 0.5):.1f} ms, max {at(waits, 1):.0f} ms"
        row("  meanwhile, for 5 s: NOOP of a client that was in", text)
        row("  meanwhile: CPU time, log", f"{spent:.1f} s, {relay.log.stat().st_size / MB:.1f} MB")


PARTS = {
    "idle": idle,
    "latency": latency,
    "memory": memory_of_mails,
    "fairness": fairness,
    "slow": slow,
    "files": files,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--connections", type=int, default=2000, help="idle connections")
    parser.add_argument("--mails", type=int, default=400, help="mails for each percentile")
    parser.add_argument("--rounds", type=int, default=3, help="of direct and relayed in turns; medians of these")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    allow_files()
    with tempfile.TemporaryDirectory(prefix="relay-mta-bench-") as place:
        bench = Bench(options, Path(place))
        for name, part in PARTS.items():
            if not options.parts or name in options.parts:
                print(f"\n{name}: {part.__doc__}")
                part(bench)


if __name__ == "__main__":
    main()
