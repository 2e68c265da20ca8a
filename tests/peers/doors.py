"""One relay with many companies: a client's loopback address decides whose it is, and so which upstream it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.process import BASE_CONFIG, Relay, free_port
from tests.peers.server import CA, CERTIFICATES

_HEAD, _, _COMPANY = BASE_CONFIG.partition("[[company]]")


@dataclass(frozen=True)
class Door:
    """A company: its id, its clients' address (none: they log in at its upstream), and its upstream."""

    company: str
    client: str
    port: int
    host: str = "127.0.0.1"
    tls: str = "none"
    ca_file: Path = CA
    forward: str = "none"


class ManyDoors(Relay):
    """A relay with these companies. Its other listeners: `starttls_port`, `implicit_port`."""

    def __init__(self, folder: Path, doors: Sequence[Door]) -> None:
        self.doors = tuple(doors)
        self.a_client = doors[0].client
        self.starttls_port, self.implicit_port = free_port(), free_port()
        pem = CERTIFICATES / "localhost.pem"
        listeners = "".join(
            f'[[listener]]\naddress = "127.0.0.1:{port}"\ntls = "{tls}"\ncert = "{pem}"\nkey = "{pem}"\n\n'
            for port, tls in ((self.starttls_port, "starttls"), (self.implicit_port, "implicit"))
        )
        companies = "".join("[[company]]" + _company(door) for door in doors)
        super().__init__(folder, _HEAD + listeners + companies, upstream_port=0)

    def kinds(self, company: str) -> list[object]:
        """The kinds of a company's ledger entries, oldest first."""
        return [entry["kind"] for entry in self.entries() if entry["company"] == company]


def _company(door: Door) -> str:
    upstream = f'host = "{door.host}", port = {door.port}, tls = "{door.tls}", forward = "{door.forward}"'
    if door.tls != "none":
        upstream += f', ca_file = "{door.ca_file}"'
    changes = {
        'id = "acme"': f'id = "{door.company}"',
        'clients = ["127.0.0.0/8"]': f'clients = ["{door.client}/32"]' if door.client else 'auth = "upstream"',
        'host = "127.0.0.1", port = {upstream_port}, tls = "none"': upstream,
    }
    text = _COMPANY
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text + "\n"
