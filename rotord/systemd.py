"""What rotord tells systemd over NOTIFY_SOCKET; nothing happens where there is none.

The engine calls `watchdog` from the place that proves progress, every `watchdog_every_s` at the latest; there is no task
of its own, since a timer that still ticks would prove nothing.
"""

import contextlib
import os
import socket
from collections.abc import Mapping


class Systemd:
    """One for the process; reads its environment once."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with @ and addressed with NUL.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        microseconds = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Half of the limit, as sd_watchdog_enabled(3) advises; None: nobody waits for it.
        self.watchdog_every_s = int(microseconds) / 2e6 if path and for_us and microseconds.isdecimal() else None

    def ready(self, status: str) -> None:
        """Start-up is done; systemd starts what waits for this unit."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def stopping(self, status: str) -> None:
        """The drain has begun."""
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(f"STATUS={_one_line(text)}")

    def watchdog(self) -> None:
        """Say that work goes on."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # Never blocks and never fails the daemon: a deaf systemd is the watchdog's business, not the mail's.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(message.encode(), self._address)


def _one_line(text: str) -> str:
    return " ".join(text.split())
