"""The process that serves: signals in, systemd's notifications out, and what the event loop has to say.

Whatever it serves is `app.App`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import math
import resource
import signal
from collections.abc import Mapping

from relay_mta import maillog, systemd
from relay_mta.app import App
from relay_mta.config import Config


def run(config: Config) -> int:
    """Serve in the foreground until SIGTERM or SIGINT; SIGHUP reads the rules again, and certificates that have
    changed. The process's exit status."""
    maillog.configure()
    _allow_files()
    return asyncio.run(_serve(config))


def _allow_files() -> None:
    """Each connection is a file descriptor; what a shell starts with (1,024) is fewer than what is allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(config: Config) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    loop.set_exception_handler(_Unheard())
    app = App(config)
    loop.add_signal_handler(signal.SIGHUP, app.reload)
    await app.start()
    # The rules are some 75,000 objects that stay: no collection has to look at them while a mail waits.
    gc.collect()
    gc.freeze()
    systemd.notify("READY=1")
    alive = asyncio.create_task(_say_alive())
    await ended.wait()
    systemd.notify("STOPPING=1")
    maillog.stopping(seconds=config.drain_seconds)
    maillog.stopped(aborted=await app.stop())
    alive.cancel()
    return 0


class _Unheard:
    """What the event loop has to say of errors that nobody caught; its own words might quote anything, and it says a
    thousand times a second that it cannot accept a connection."""

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            if loop.time() - self._last >= 60.0:
                self._last = loop.time()
                maillog.out_of_files()
        elif isinstance(error, BaseException):
            maillog.defect(error)


async def _say_alive() -> None:
    """Feed the watchdog from the loop that carries the mail: if it stands still, systemd should know."""
    while (seconds := systemd.watchdog_seconds()) is not None:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(seconds)
