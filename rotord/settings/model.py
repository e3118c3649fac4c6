"""Every setting: its type, default, unit and one-line meaning; nothing here reads a file.

docs/settings.md and config/rotord.toml are written from this model (describe.py), and a test holds them equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rotord.handwritten import is_address, is_domain
from rotord.settings.providers import AnyProvider, Sandbox
from rotord.settings.section import FROZEN, FilePath, Name, Section, WebAddress, setting


def _database_url(url: SecretStr) -> SecretStr:
    if not re.match(r"embedded$|postgres(ql)?://", url.get_secret_value()):
        raise ValueError("wanted embedded, or an address that begins with postgresql://")
    return url


def _address_or_empty(text: str) -> str:
    if text and not is_address(text):
        raise ValueError("is no e-mail address; give one like qa@example.com, or nothing")
    return text


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    # 65535: the highest TCP port
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:  # noqa: PLR2004
        raise ValueError("wanted host:port, like 127.0.0.1:8025 or [::1]:8025")
    return text


def _domain(text: str) -> str:
    if not is_domain(text):
        raise ValueError("is no domain name; give one like acme-mail.example")
    return text.lower()


class Database(Section):
    """Where the outbox is."""

    url: Annotated[SecretStr, AfterValidator(_database_url)] = setting(
        SecretStr("embedded"), "`embedded` starts a PostgreSQL of rotord's own, or `postgresql://user@host1,host2/db`"
    )

    @property
    def is_embedded(self) -> bool:
        """True when rotord brings its own PostgreSQL."""
        return self.url.get_secret_value() == "embedded"


class State(Section):
    """What rotord keeps on local disk."""

    dir: FilePath = setting(
        Path(".rotord"), "embedded database, journal, sandbox mail; seen from where rotord is started; /var/lib/rotord under systemd"
    )


class Lease(Section):
    """The right to send, which one node holds; its other times are parts of the one."""

    # 5 s: below it a query that takes a second would cost the lease
    ttl_seconds: float = setting(
        10.0,
        "lost when not renewed for so long; renewals (every 1/5), their time-out (3/20) and the margin (1/5) follow it",
        unit="s",
        ge=5,
        le=120,
    )

    @property
    def renew_seconds(self) -> float:
        """How often the holder renews: 2 s of 10."""
        return self.ttl_seconds / 5

    @property
    def query_timeout_seconds(self) -> float:
        """When a renewal counts as failed: 1.5 s of 10, so that another fits into the trusted time."""
        return self.ttl_seconds * 3 / 20

    @property
    def margin_seconds(self) -> float:
        """How long before its end the holder stops to trust its lease: 2 s of 10."""
        return self.ttl_seconds / 5


class Http(Section):
    """The listener for webhooks, mail that comes in, unsubscribe, health, metrics."""

    listen: Annotated[str, AfterValidator(_listen)] = setting("127.0.0.1:8025", "address and port to listen on")
    public_url: WebAddress = setting("", "how the world reaches the listener, for unsubscribe links; empty: not at all")
    unsubscribe_mailto: Annotated[str, AfterValidator(_address_or_empty)] = setting(
        "", "the mailbox that takes unsubscribe mails (its posts come to /inbound/); a second link beside public_url's; empty: none"
    )
    admin_token: SecretStr = setting(SecretStr(""), "for the dashboard, which is not in this release")


class Engine(Section):
    """How much at once, how long to try."""

    concurrency: int = setting(200, "messages in flight, all providers; each has its own bound below it", unit="messages", ge=1, le=10_000)
    # 16 MiB: one message with 10 MB of attachments, in base64
    bytes_in_flight: int = setting(67_108_864, "bodies in memory at once", unit="bytes", ge=16_777_216, le=17_179_869_184)
    redirect_all_to: Annotated[str, AfterValidator(_address_or_empty)] = setting(
        "", "rehearsal: every message goes to this recipient instead, marked in its subject"
    )
    # 90 s: systemd's TimeoutStopSec, after which it kills
    drain_seconds: float = setting(20.0, "SIGTERM ends with exit 0 within it", unit="s", ge=1, lt=90)
    retry_first_seconds: float = setting(
        60.0, "first wait after a proven refusal for now; then doubling, with jitter", unit="s", ge=1, le=86_400
    )
    retry_max_seconds: float = setting(3600.0, "the longest wait between two attempts", unit="s", ge=1, le=86_400)
    retry_for_seconds: float = setting(
        86_400.0, "a message refused for so long since its first attempt has failed", unit="s", ge=0, le=2_592_000
    )
    thread_wait_seconds: float = setting(
        86_400.0, "how long a thread waits for its cooling address before it moves", unit="s", ge=0, le=2_592_000
    )
    poll_seconds: float = setting(1.0, "looks into the queue so often even if no notice came", unit="s", ge=0.1, le=60)

    @model_validator(mode="after")
    def _waits_are_ordered(self) -> Engine:
        if self.retry_first_seconds > self.retry_max_seconds:
            raise ValueError("retry_first_seconds is more than retry_max_seconds")
        return self


class Routing(Section):
    """Which of a domain's providers carries a message."""

    prefer: Literal["order", "cheapest"] = setting(
        "order", "order: by weight, in the domain's order; cheapest: the lowest cost_per_1000 that has room (limits, plan, slots)"
    )


class Dkim(Section):
    """A key that signs a domain's mail here; providers that sign themselves need none."""

    domain: Annotated[str, AfterValidator(_domain)] = setting(..., "the domain whose mail is signed (d=)", example="acme-mail.example")
    selector: str = setting(..., "its record is SELECTOR._domainkey.DOMAIN (s=)", example="rotord", pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")
    key_file: FilePath | None = setting(None, "private key, PEM", example="/etc/rotord/acme.pem", absent="private_key is given instead")
    private_key: SecretStr = setting(SecretStr(""), "the PEM itself, instead of key_file; best as a credential")

    @model_validator(mode="after")
    def _has_one_key(self) -> Dkim:
        if (self.key_file is None) == (not self.private_key.get_secret_value()):
            raise ValueError("wants exactly one of key_file and private_key")
        return self


class Log(Section):
    """What the log looks like."""

    format: Literal["auto", "json", "console"] = setting("auto", "auto: console on a terminal, else json")
    level: Literal["debug", "info", "warning", "error"] = setting("info", "the least that is written; only debug shows recipients")


class Reconcile(Section):
    """What happens to a message whose answer was lost."""

    grace_seconds: float = setting(
        1800.0,
        "how long an uncertain message waits for its webhook before the look-up; a provider's log may lag half an hour behind",
        unit="s",
        ge=0,
        le=604_800,
    )


class Suppressions(Section):
    """The exchange with the providers' own suppression lists (docs/providers.md); off in a rehearsal."""

    # 5 min: a pass over a long list takes longer
    sync_minutes: float = setting(60.0, "from one reading of their lists to the next; 0: never", unit="min", ge=0, le=10_080)
    push: Literal["none", "lasting", "all"] = setting(
        "lasting",
        "what is added to their lists: lasting: hard_bounce and manual; all: complaint and unsubscribe too, "
        "and who is on such a list gets no transactional mail there either",
    )

    @property
    def pushed(self) -> tuple[str, ...]:
        """The reasons."""
        lasting = ("hard_bounce", "manual")
        return {"none": (), "lasting": lasting, "all": (*lasting, "complaint", "unsubscribe")}[self.push]


def _for_ever_or_long(days: int) -> int:
    # 35: a calendar month is counted from attempts that its days' counters lack, and bounces come a month late
    if 0 < days < 35:  # noqa: PLR2004
        raise ValueError("wanted 0 (for ever) or at least 35 days")
    return days


class Retention(Section):
    """How long what happened is kept. Rows of the outbox, what became of them, suppressions and statistics stay for ever."""

    body_days: int = setting(
        90,
        "bodies and attachments, from when the message was settled; then it cannot be tried again; 0: for ever",
        unit="days",
        ge=0,
        le=36_500,
    )
    attempts_days: Annotated[int, AfterValidator(_for_ever_or_long)] = setting(
        400, "rows of rotord.attempts, from when they began; 0: for ever", unit="days", ge=0, le=36_500
    )
    events_days: Annotated[int, AfterValidator(_for_ever_or_long)] = setting(
        400, "rows of rotord.events, dropped by the month; 0: for ever", unit="days", ge=0, le=36_500
    )
    # 3 days: the longest for which a provider tries a post again (SMTP2GO: 48 h), so that its token is still known then
    posts_days: int = setting(30, "posts of providers as they came, for `rotord events replay`", unit="days", ge=3, le=3660)


class Telegram(Section):
    """Alerts to a Telegram chat; off while token is empty."""

    base_url: WebAddress = setting("https://api.telegram.org", "may be a local double")
    token: SecretStr = setting(SecretStr(""), "the bot's token")
    chat_id: str = setting("", "the chat that is written to")


class Slack(Section):
    """Alerts to a Slack channel; off while webhook_url is empty."""

    webhook_url: SecretStr = setting(SecretStr(""), "the incoming webhook's address, which is a secret")


class Alerts(Section):
    """Whom to tell."""

    telegram: Telegram = Telegram()
    slack: Slack = Slack()


class Backup(Section):
    """Dumps of the database: not in this release, so back up PostgreSQL yourself."""

    directory: str = setting("", "where dumps are kept")
    keep_daily: int = setting(7, "daily dumps kept", ge=1, le=3660)
    keep_weekly: int = setting(4, "weekly dumps kept", ge=0, le=520)


class Settings(BaseSettings):
    """All of it, as read at start; nothing reads a setting from anywhere else. `load` fills it, from the sources it is given."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    database: Database = Database()
    state: State = State()
    lease: Lease = Lease()
    http: Http = Http()
    engine: Engine = Engine()
    providers: Annotated[Mapping[Name, AnyProvider], *FROZEN] = Field({}, validate_default=True)
    routing: Routing = Routing()
    dkim: Annotated[Mapping[Name, Dkim], *FROZEN] = Field({}, validate_default=True)
    reconcile: Reconcile = Reconcile()
    suppressions: Suppressions = Suppressions()
    retention: Retention = Retention()
    alerts: Alerts = Alerts()
    backup: Backup = Backup()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing of its own accord: by default the library would take a variable named LOG for the table `log`."""
        return (init_settings,)

    def sandbox_directory(self, name: str) -> Path:
        """Tell where the sandbox provider of that name writes its mail."""
        provider = self.providers[name]
        if isinstance(provider, Sandbox) and provider.directory is not None:
            return provider.directory
        return self.state.dir / "sandbox" / name

    def secrets(self) -> list[str]:
        """List every secret value in use, the longest first, for the log to mask."""
        found = set(_secrets(self))
        found.update(part for part in self.alerts.slack.webhook_url.get_secret_value().split("/")[3:] if len(part) >= 12)  # noqa: PLR2004
        url = self.database.url.get_secret_value()
        if url == "embedded":
            found.discard(url)
        else:
            inside = re.findall(r"(?:^[a-z]+://[^:@/]*:|[?&]password=)([^@&]+)", url)
            found.update(inside, map(unquote, inside))
        return sorted(found, key=len, reverse=True)


def _secrets(value: object) -> list[str]:
    match value:
        case SecretStr():
            return [value.get_secret_value()] if value.get_secret_value() else []
        case BaseModel():
            return [secret for name in type(value).model_fields for secret in _secrets(getattr(value, name))]
        case Mapping():
            return [secret for entry in value.values() for secret in _secrets(entry)]
        case _:
            return []
