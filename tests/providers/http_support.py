"""The three providers with their doubles, for tests that are about all of them."""

from __future__ import annotations

from rotord.providers.http import ApiConfig, HttpProvider
from rotord.providers.mailgun import MailgunApi
from rotord.providers.sendgrid import SendgridApi
from rotord.providers.smtp2go import Smtp2goApi
from tests.doubles.mailgun import MailgunDouble
from tests.doubles.sendgrid import SendgridDouble
from tests.doubles.smtp2go import Smtp2goDouble
from tests.providers.support import running

KINDS = {"mailgun": (MailgunApi, MailgunDouble), "sendgrid": (SendgridApi, SendgridDouble), "smtp2go": (Smtp2goApi, Smtp2goDouble)}


def double(kind, directory, **options):
    return KINDS[kind][1](directory, **options)


def base_url(kind, port):
    return f"http://127.0.0.1:{port}" + ("/v3" if kind == "smtp2go" else "")


def api(kind, server, clock=None, **changes):
    """The provider of `kind`, running, at its double."""
    config = ApiConfig(**({"name": kind, "base_url": base_url(kind, server.port), "api_key": server.key, "max_in_flight": 4} | changes))
    provider = HttpProvider(KINDS[kind][0](config), config, **({"clock": clock} if clock else {}))
    return running(provider)
