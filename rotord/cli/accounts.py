"""The accounts at the providers as commands use them: built from the settings, asked all at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from rotord.daemon import api_config
from rotord.providers.account import Account, Wanted
from rotord.providers.account_mailgun import MailgunAccount
from rotord.providers.account_sendgrid import SendgridAccount
from rotord.providers.account_smtp2go import Smtp2goAccount
from rotord.settings import Mailgun, Sendgrid, Smtp2go

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rotord.db.check import Domain
    from rotord.providers.account import AccountApi, Finding
    from rotord.providers.http import ApiConfig
    from rotord.settings import Settings

_APIS: Final[Mapping[str, Callable[[ApiConfig], AccountApi]]] = {
    "mailgun": MailgunAccount,
    "sendgrid": SendgridAccount,
    "smtp2go": Smtp2goAccount,
}


def with_account(settings: Settings) -> list[str]:
    """Name the providers that have one."""
    return [name for name, config in settings.providers.items() if isinstance(config, Mailgun | Sendgrid | Smtp2go)]


def account(settings: Settings, name: str) -> Account:
    """Build one; it must be among `with_account`."""
    config = settings.providers[name]
    if not isinstance(config, Mailgun | Sendgrid | Smtp2go):
        raise TypeError(name)
    api = api_config(name, config)
    return Account(_APIS[config.kind](api), api)


def wanted(settings: Settings, name: str) -> Wanted:
    """Say where the provider is to post."""
    base = settings.http.public_url.rstrip("/")
    token = settings.providers[name].webhook_key.get_secret_value()
    return Wanted(f"{base}/webhooks/{name}", f"{base}/inbound/{name}", token) if base else Wanted("", "", token)


def domains_of(domains: Iterable[Domain], name: str) -> list[str]:
    """List those that go by a provider."""
    return [domain.name for domain in domains if name in domain.providers]


async def survey(settings: Settings, domains: Mapping[str, Sequence[str]]) -> dict[str, list[Finding]]:
    """Ask the providers that are the keys of `domains`, about their domains."""
    async with AsyncExitStack() as stack:
        accounts = {name: await stack.enter_async_context(account(settings, name)) for name in domains}
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(one.survey(domains[name], wanted(settings, name)), name=f"account {name}")
                for name, one in accounts.items()
            }
    return {name: task.result() for name, task in tasks.items()}
