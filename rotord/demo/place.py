"""The demo's directory. Every run begins with an empty database in it, so it must never be somebody's real state.

rotord-demo      the mark that says it is a demo's
rotord.toml      what the daemon and the commands afterwards run with
postgres/        the embedded server; kept, which is why a second demo starts in seconds
daemon.log       what the daemon of the last run said
receiver.jsonl   what the SMTP server of the last run took; sandbox/sandbox/truth.jsonl is the sandbox's
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotord.demo.children import PlaceError

if TYPE_CHECKING:
    from pathlib import Path

_MARK: Final = "Made by `rotord demo`, which empties this directory's database at every start. Remove the directory when you like.\n"

#: The relay's connections and the sandbox's places: together what can be on the wire at once.
RELAY_SLOTS: Final = 32
SANDBOX_SLOTS: Final = 24
#: Written by rotord demo; the shares make a few messages be refused, for now and for good, so that there is something to see.
_CONFIG: Final = """\
# Written anew by every `rotord demo`. Nothing here leaves this machine.
[database]
url = "embedded"
[state]
dir = {state}
[http]
listen = "127.0.0.1:0"
public_url = "https://rotor.example.com"
[engine]
retry_first_seconds = 1
[providers.relay]
kind = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
connections = {relay_slots}
hello_name = "rotord-demo.example"
per_hour = 20000
[providers.sandbox]
kind = "sandbox"
max_in_flight = {sandbox_slots}
latency_ms = [20, 120]
outcomes = {{ deferred = 0.02, rejected = 0.004 }}
per_hour = 10000
[log]
format = "console"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """An absolute directory, and the names in it."""

    directory: Path

    @property
    def config(self) -> Path:
        """The configuration of the daemon and of commands afterwards."""
        return self.directory / "rotord.toml"

    @property
    def daemon_log(self) -> Path:
        """What the daemon says."""
        return self.directory / "daemon.log"

    @property
    def relay_truth(self) -> Path:
        """What the SMTP server took."""
        return self.directory / "receiver.jsonl"

    @property
    def sandbox_truth(self) -> Path:
        """What the sandbox took."""
        return self.directory / "sandbox" / "sandbox" / "truth.jsonl"

    def claim(self) -> bool:
        """Make the directory or recognise it as a demo's; True if a database is kept in it. PlaceError if it is anything else's."""
        mark = self.directory / "rotord-demo"
        try:
            if not mark.exists():
                if self.directory.is_dir() and any(self.directory.iterdir()):
                    raise PlaceError(f"{self.directory} is not a demo's, and the demo empties its database: give --state a new directory")
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                mark.write_text(_MARK)
                return False
        except OSError as error:
            raise PlaceError(
                f"{self.directory} cannot be the demo's: {error.strerror}; give --state a directory you may write to"
            ) from None
        return self.config.exists()

    def clear(self) -> None:
        """Remove what the last run's receivers and daemon wrote; only once the embedded server's lock is held."""
        shutil.rmtree(self.directory / "sandbox", ignore_errors=True)
        for log in (self.relay_truth, self.daemon_log):
            log.unlink(missing_ok=True)

    def configure(self, port: int) -> None:
        """Write the configuration; `port` is the SMTP server's."""
        # a JSON string is a TOML string, if what is beyond ASCII stays as it is
        state = json.dumps(str(self.directory), ensure_ascii=False)
        self.config.write_text(_CONFIG.format(state=state, port=port, relay_slots=RELAY_SLOTS, sandbox_slots=SANDBOX_SLOTS), "utf-8")
