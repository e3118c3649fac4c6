"""The demo's directory. Every run begins with an empty database in it, so it must never be somebody's real state.

rotord-demo      the mark that says it is a demo's
rotord.toml      what the daemon and the commands afterwards run with
postgres/        the embedded server; kept, which is why a second demo starts in seconds
daemon.log       what the daemon of the last run said
NAME.jsonl       what the receiver of that name took in the last run: relay, mailgun, sendgrid
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from rotord.demo.children import PlaceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MARK: Final = "Made by `rotord demo`, which empties this directory's database at every start. Remove the directory when you like.\n"

#: The relay's connections and the APIs' requests: together what can be on the wire at once. Mailgun goes away: as few as the breaker
#: takes for chance at one moment, for its pause of 30 s would be longer than the demo.
SLOTS: Final[Mapping[str, int]] = MappingProxyType({"relay": 24, "mailgun": 2, "sendgrid": 16})
PER_HOUR: Final[Mapping[str, int]] = MappingProxyType({"relay": 20_000, "mailgun": 10_000, "sendgrid": 10_000})
#: it opens nothing but the demo's own doubles
API_KEY: Final = "key-of-the-demo"
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
port = {ports[relay]}
tls = "none"
connections = {slots[relay]}
hello_name = "rotord-demo.example"
per_hour = {per_hour[relay]}
[providers.mailgun]
kind = "mailgun"
base_url = "http://127.0.0.1:{ports[mailgun]}"
api_key = "{key}"
max_in_flight = {slots[mailgun]}
per_hour = {per_hour[mailgun]}
[providers.sendgrid]
kind = "sendgrid"
base_url = "http://127.0.0.1:{ports[sendgrid]}"
api_key = "{key}"
max_in_flight = {slots[sendgrid]}
per_hour = {per_hour[sendgrid]}
[suppressions]
sync_minutes = 0
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

    def truth(self, provider: str) -> Path:
        """What the receiver of that name took."""
        return self.directory / f"{provider}.jsonl"

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
        for log in (*map(self.truth, SLOTS), self.daemon_log):
            log.unlink(missing_ok=True)

    def configure(self, ports: Mapping[str, int]) -> None:
        """Write the configuration; `ports` are the receivers'."""
        # a JSON string is a TOML string, if what is beyond ASCII stays as it is
        state = json.dumps(str(self.directory), ensure_ascii=False)
        self.config.write_text(_CONFIG.format(state=state, ports=ports, slots=SLOTS, per_hour=PER_HOUR, key=API_KEY), "utf-8")
