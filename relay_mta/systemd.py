"""What systemd wants to hear of a service of Type=notify (sd_notify(3)): ready, stopping, and still alive.

Without systemd nothing is said to anybody. A message that cannot be sent is lost: the relay does not depend on it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket

PATIENCE = 0.2
"""Seconds that a message may take to be handed over: this holds up everything, and mail does not wait for systemd."""


def notify(state: str) -> bool:
    """Send a state, such as "READY=1", to whoever started us; False if nobody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):  # Linux's abstract namespace, unix(7)
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
        messenger.settimeout(PATIENCE)
        messenger.connect(address)
        messenger.sendall(state.encode())
        return True
    return False


def watchdog_seconds() -> float | None:
    """How often to say "WATCHDOG=1": twice in the time after which systemd takes us for dead (WatchdogSec=)."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if not re.fullmatch(r"0*[1-9][0-9]{0,19}", microseconds) or not ours:
        return None
    return int(microseconds) / 2_000_000
