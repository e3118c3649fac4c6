"""The kinds of providers, and what each may be told."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003  pydantic reads annotations at run time
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from rotord.core.model import ProviderLimits
from rotord.settings.section import FROZEN, FilePath, Section, WebAddress, setting


class ProviderSettings(Section):
    """What every kind of provider has."""

    per_second: float | None = setting(None, "requests a second", example=50, absent="no limit", gt=0, le=100_000)
    per_hour: int | None = setting(None, "in any 60 minutes", example=20000, absent="no limit", ge=0, lt=2**31)
    per_day: int | None = setting(None, "in any 24 hours", example=200000, absent="no limit", ge=0, lt=2**31)
    per_month: int | None = setting(
        None, "in a calendar month, UTC: the plan that is paid for", example=1000000, absent="no limit", ge=0, lt=2**31
    )
    spread_month: bool = setting(False, "spread per_month: day d of a month of D days may bring its use to d/D of it, no further")
    cost_per_1000: float = setting(0.0, "what 1,000 messages cost, in any currency; for routing.prefer", ge=0, le=1e6)
    max_in_flight: int | None = setting(
        None, "messages on the wire at once", example=100, absent="100; smtp: its connections", ge=1, le=10_000
    )
    weight: float = setting(1.0, "its share of a domain's mail beside the domain's other providers", gt=0, le=1000)
    probe_max_seconds: float = setting(
        30.0,
        "an unreachable provider is tried again at least so often (every 10 s in the first 5 minutes)",
        unit="s",
        ge=1,
        le=3600,
    )
    webhook_key: SecretStr = setting(SecretStr(""), "proves who posts its events; empty: posts are refused")

    @property
    def slots(self) -> int:
        """How many messages may be on the wire at once."""
        return 100 if self.max_in_flight is None else self.max_in_flight

    def limits(self, name: str, *, prefer: Literal["order", "cheapest"] = "order") -> ProviderLimits:
        """Give the limits as the core knows them."""
        return ProviderLimits(
            name=name,
            per_second=self.per_second,
            per_hour=self.per_hour,
            per_day=self.per_day,
            per_month=self.per_month,
            max_in_flight=self.slots,
            weight=self.weight,
            is_month_spread=self.spread_month,
            preference=self.cost_per_1000 if prefer == "cheapest" else 0.0,
        )


def _return_path(text: str) -> str:
    if text and not re.fullmatch(r"(?:[a-z0-9-]+\.)*(?:\{domain\}|[a-z0-9-]+\.[a-z0-9-]+)", text):
        raise ValueError("is no domain; give one like bounces.example.com or bounces.{domain}, or nothing")
    return text


class Smtp(ProviderSettings):
    """A relay that speaks SMTP."""

    kind: Literal["smtp"]
    host: str = setting(..., "name or address of the relay", example="127.0.0.1", min_length=1, max_length=253)
    port: int = setting(587, "587 with starttls, 465 with implicit, 25 with none", ge=1, le=65_535)
    tls: Literal["starttls", "implicit", "none"] = setting(
        "starttls", "encryption, with the certificate checked; `none` only for a relay on loopback or a private network"
    )
    username: str = setting("", "empty: no authentication")
    password: SecretStr = setting(SecretStr(""), "for username")
    connections: int = setting(8, "connections kept open at most", unit="connections", ge=1, le=1000)
    ca_file: FilePath | None = setting(
        None,
        "PEM bundle trusted besides the system's, for a private relay",
        example="/etc/rotord/relay-ca.pem",
        absent="the system's only",
    )
    hello_name: str = setting("", "what EHLO says; empty: this host's name", max_length=253)
    return_path: Annotated[str, AfterValidator(_return_path)] = setting(
        "",
        "domain of each message's own return path (docs/inbound.md), like bounces.{domain}, the sender's; empty: none",
        max_length=253,
    )
    idle_seconds: float = setting(60.0, "an idle connection is closed after it, before the relay does", unit="s", ge=1, le=300)
    # RFC 5321 4.5.3.2 asks for at least these two
    connect_timeout_seconds: float = setting(30.0, "to connect and agree on TLS", unit="s", ge=1, le=300)
    command_timeout_seconds: float = setting(300.0, "for the answer to a command (RFC 5321 4.5.3.2)", unit="s", ge=1, le=3600)
    final_timeout_seconds: float = setting(600.0, "for the answer after the final dot (RFC 5321 4.5.3.2.6)", unit="s", ge=1, le=3600)

    @property
    def slots(self) -> int:
        """One message a connection."""
        return self.connections if self.max_in_flight is None else min(self.connections, self.max_in_flight)

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Smtp:
        if self.password.get_secret_value() and not self.username:
            raise ValueError("password is given without username")
        return self


Share = Annotated[float, Field(ge=0, le=1)]
SandboxOutcome = Literal["deferred", "rejected", "not_sent", "uncertain"]


def _latency(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value


# 600 s: the longest that an SMTP relay may take after the final dot
Milliseconds = Annotated[float, Field(ge=0, le=600_000)]


class Sandbox(ProviderSettings):
    """A provider that writes mail to files: nothing leaves the machine."""

    kind: Literal["sandbox"]
    directory: FilePath | None = setting(
        None,
        "where the mail is written",
        example="/srv/mail",
        absent="state.dir/sandbox/NAME",
    )
    latency_ms: Annotated[tuple[Milliseconds, Milliseconds], BeforeValidator(_latency)] = setting(
        (0.0, 0.0), "how long a message takes: one number, or [least, most]", unit="ms", example=0
    )
    outcomes: Annotated[Mapping[SandboxOutcome, Share], *FROZEN] = setting(
        {},
        "shares of deferred, rejected, not_sent, uncertain, like { deferred = 0.05 }; the rest is accepted",
        unit="0 to 1",
        validate_default=True,
    )

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> Sandbox:
        least, most = self.latency_ms
        if least > most:
            raise ValueError("latency_ms wants the lesser number first")
        # a hair above 1: 0.1 + 0.2 + 0.7 is not exactly 1
        if sum(self.outcomes.values()) > 1 + 1e-9:
            raise ValueError("the shares in outcomes are more than 1 together")
        return self


def _printable(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not (text.isascii() and text.isprintable()) or " " in text or not text:
        raise ValueError("wanted a key of printable letters, without blanks")
    return key


class ApiProvider(ProviderSettings):
    """A provider that takes mail by HTTP."""

    api_key: Annotated[SecretStr, AfterValidator(_printable)] = setting(..., "the account's key", example="...")
    tracking: bool = setting(False, "let the provider rewrite links and count opens as its account is set; false: neither")
    # longer than a provider takes, for a message that is cut off is uncertain
    timeout_seconds: float = setting(60.0, "for a message, from the connection to the end of the answer", unit="s", ge=1, le=600)
    connect_timeout_seconds: float = setting(10.0, "to connect and agree on TLS", unit="s", ge=1, le=300)
    # no published number for Mailgun's events and SendGrid's logs: what a person with a browser might do (docs/decisions.md)
    look_ups_per_minute: int = setting(
        30, "requests that ask after messages whose answer was lost; 0: none, they wait for an event or a person", ge=0, le=6000
    )


class Mailgun(ApiProvider):
    """Mailgun; webhook_key is its signing key."""

    kind: Literal["mailgun"]
    base_url: WebAddress = setting("https://api.mailgun.net", "https://api.eu.mailgun.net for the EU; may be a local double")


class Sendgrid(ApiProvider):
    """SendGrid; webhook_key is its public key."""

    kind: Literal["sendgrid"]
    base_url: WebAddress = setting("https://api.sendgrid.com", "https://api.eu.sendgrid.com for the EU; may be a local double")


class Smtp2go(ApiProvider):
    """SMTP2GO; webhook_key is its bearer token. tracking changes nothing here, it is the account's own."""

    kind: Literal["smtp2go"]
    # 60 is what it allows, to everybody who uses the account
    look_ups_per_minute: int = setting(
        50, "requests that ask after messages whose answer was lost; 0: none, they wait for an event or a person", ge=0, le=6000
    )
    base_url: WebAddress = setting("https://api.smtp2go.com/v3", "https://eu-api.smtp2go.com/v3 for the EU; may be a local double")


AnyProvider = Annotated[Smtp | Sandbox | Mailgun | Sendgrid | Smtp2go, Field(discriminator="kind")]
PROVIDER_KINDS: Final[Mapping[str, type[ProviderSettings]]] = MappingProxyType(
    {"smtp": Smtp, "sandbox": Sandbox, "mailgun": Mailgun, "sendgrid": Sendgrid, "smtp2go": Smtp2go}
)
