"""Mailgun's account: /v4/domains with their DNS records, webhooks of each domain, routes of the account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from rotord.core.authentication import Level, Verdict
from rotord.providers.account import PUBLISH, Finding, Question, Record, Reply, apply_remedy, entries, no_address, not_answered, not_let_in
from rotord.providers.mailgun import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.providers.account import Survey, Wanted
    from rotord.providers.http import ApiConfig

EVENTS: Final = ("accepted", "delivered", "permanent_fail", "temporary_fail", "complained", "unsubscribed", "opened", "clicked")
_MISSING: Final = 404


class MailgunAccount:
    """Questions and what their answers show."""

    def __init__(self, config: ApiConfig) -> None:
        authorization = aiohttp.encode_basic_auth("api", config.api_key)
        self._name = config.name
        self.headers: Mapping[str, str] = {"Authorization": authorization}
        self.secrets: tuple[str, ...] = (config.api_key, authorization.removeprefix("Basic "))

    def account(self, domains: Sequence[str], wanted: Wanted) -> Survey:
        """The key, and the routes that bring replies."""
        reply = yield Question("GET", "/v4/domains?limit=1")
        if not reply.is_fine:
            return [not_let_in(self._name, reply)]
        found = [Finding("provider", self._name, Verdict(Level.OK, "mailgun: its key is let in"))]
        if wanted.inbound_url and domains:
            reply = yield Question("GET", "/v3/routes?limit=1000")
            found += [self._route(domain, wanted, reply) for domain in domains]
        return found

    def domain(self, domain: str, wanted: Wanted) -> Survey:
        """Its state and records, and who is told of its events."""
        reply = yield Question("GET", f"/v4/domains/{domain}")
        found = [self._domain(domain, reply)]
        if not wanted.webhook_url:
            return [*found, no_address(f"{self._name} {domain}", "webhook")]
        if reply.is_fine:
            reply = yield Question("GET", f"/v3/domains/{domain}/webhooks")
        return [*found, self._webhook(domain, wanted, reply)]

    def words(self, content: Any) -> str:
        """As when sending, or `{"Reason": ...}`."""
        return words_of(content.get("message", content.get("Reason")) if isinstance(content, dict) else content)

    def _domain(self, domain: str, reply: Reply) -> Finding:
        name = f"{self._name} {domain}"
        if reply.status == _MISSING:
            create = Question("POST", "/v4/domains", form=(("name", domain),))
            verdict = Verdict(Level.FAIL, "this account does not have it", apply_remedy(self._name))
            return Finding("sender", name, verdict, create)
        if not reply.is_fine or not isinstance(reply.content, dict):
            return not_answered("sender", name, reply)
        state = (reply.content.get("domain") or {}).get("state")
        records = tuple(_records(reply.content))
        missing = sum(not record.valid for record in records if record.kind != "MX")
        if state == "active":
            return Finding("sender", name, Verdict(Level.OK, "active"), records=records)
        says = f"it is {state}" + (f"; {missing} of its DNS records are not seen yet" if missing else "")
        return Finding("sender", name, Verdict(Level.FAIL, says, PUBLISH), records=records)

    def _route(self, domain: str, wanted: Wanted, reply: Reply) -> Finding:
        name = f"{self._name} {domain}"
        if not reply.is_fine:
            return not_answered("inbound", name, reply)
        for route in entries(reply.content, "items"):
            forwards = any(wanted.inbound_url in str(action) for action in route.get("actions") or ())
            expression = str(route.get("expression", "")).replace("\\", "")
            if forwards and (domain in expression or "catch_all" in expression):
                return Finding("inbound", name, Verdict(Level.OK, f"replies are posted to {wanted.inbound_url}"))
        escaped = re.escape(domain).replace("\\-", "-")
        form = (
            ("priority", "10"),
            ("description", f"rotord: replies to {domain}"),
            ("expression", f'match_recipient(".*@{escaped}")'),
            ("action", f'forward("{wanted.inbound_url}")'),
        )
        verdict = Verdict(Level.WARN, "no route brings its replies", apply_remedy(self._name))
        return Finding("inbound", name, verdict, Question("POST", "/v3/routes", form=form))

    def _webhook(self, domain: str, wanted: Wanted, reply: Reply) -> Finding:
        name = f"{self._name} {domain}"
        content = reply.content.get("webhooks") if isinstance(reply.content, dict) else None
        if not isinstance(content, dict) and reply.status != _MISSING:
            return not_answered("webhook", name, reply)
        hooks: dict[str, Any] = content if isinstance(content, dict) else {}
        missing = [event for event in EVENTS if wanted.webhook_url not in ((hooks.get(event) or {}).get("urls") or ())]
        if not missing:
            return Finding("webhook", name, Verdict(Level.OK, f"every event is posted to {wanted.webhook_url}"))
        form = (("url", wanted.webhook_url), *(("event_types", event) for event in missing))
        says = f"not posted to {wanted.webhook_url}: {', '.join(missing)}"
        remedy = apply_remedy(self._name)
        return Finding("webhook", name, Verdict(Level.FAIL, says, remedy), Question("POST", f"/v4/domains/{domain}/webhooks", form=form))


def _records(content: dict[str, Any]) -> list[Record]:
    records, domain = [], str((content.get("domain") or {}).get("name") or "")
    for field in ("sending_dns_records", "receiving_dns_records"):
        for entry in entries(content, field):
            kind, name, value = (str(entry.get(key) or "") for key in ("record_type", "name", "value"))
            if kind == "MX":
                value = f"{entry.get('priority') or 10} {value}."
            if value.strip(" ."):
                records.append(Record(kind, name or domain, value, entry.get("valid") == "valid"))
    return records
