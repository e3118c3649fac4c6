"""SendGrid's account: the key's scopes, authenticated domains, the event webhook, inbound parse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rotord.core.authentication import Level, Verdict
from rotord.providers.account import PUBLISH, Finding, Question, Record, Reply, apply_remedy, entries, no_address, not_answered, not_let_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.providers.account import Survey, Wanted
    from rotord.providers.http import ApiConfig

EVENTS: Final = (
    *("processed", "delivered", "deferred", "bounce", "dropped", "open", "click"),
    *("spam_report", "unsubscribe", "group_unsubscribe", "group_resubscribe"),
)
_SETTINGS: Final = "/v3/user/webhooks/event/settings"


class SendgridAccount:
    """Questions and what their answers show."""

    def __init__(self, config: ApiConfig) -> None:
        self._name = config.name
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {config.api_key}"}
        self.secrets: tuple[str, ...] = (config.api_key,)

    def account(self, domains: Sequence[str], wanted: Wanted) -> Survey:
        """Everything: nothing has to be asked of a domain alone."""
        reply = yield Question("GET", "/v3/scopes")
        if not reply.is_fine:
            return [not_let_in(self._name, reply)]
        found = [self._scopes(reply)]
        if not domains:
            return found
        reply = yield Question("GET", "/v3/whitelabel/domains?limit=500")
        found += [self._domain(domain, reply) for domain in domains]
        if not wanted.webhook_url:
            return [*found, no_address(self._name, "webhook")]
        reply = yield Question("GET", f"{_SETTINGS}/all")
        found.append(self._webhook(wanted, reply))
        reply = yield Question("GET", "/v3/user/webhooks/parse/settings")
        return found + [self._parse(domain, wanted, reply) for domain in domains]

    def domain(self, domain: str, wanted: Wanted) -> Survey:  # noqa: ARG002 - of a domain alone there is nothing to ask
        """Nothing."""
        yield from ()
        return []

    def words(self, content: Any) -> str:
        """Its errors' messages."""
        return "; ".join(str(error.get("message", "")) for error in entries(content, "errors"))

    def _scopes(self, reply: Reply) -> Finding:
        scopes = reply.content.get("scopes") if isinstance(reply.content, dict) else None
        if isinstance(scopes, list) and "mail.send" not in scopes:
            verdict = Verdict(Level.FAIL, "sendgrid: its key may not send", "give the key the scope mail.send")
        else:
            verdict = Verdict(Level.OK, "sendgrid: its key is let in")
        return Finding("provider", self._name, verdict)

    def _domain(self, domain: str, reply: Reply) -> Finding:
        name = f"{self._name} {domain}"
        if not reply.is_fine or not isinstance(reply.content, list):
            return not_answered("sender", name, reply)
        own = [entry for entry in entries(reply.content) if str(entry.get("domain", "")).lower() == domain]
        if not own:
            content = {"domain": domain, "automatic_security": True, "custom_spf": False, "default": False}
            verdict = Verdict(Level.FAIL, "this account does not have it", apply_remedy(self._name))
            return Finding("sender", name, verdict, Question("POST", "/v3/whitelabel/domains", content=content))
        best = next((entry for entry in own if entry.get("valid")), own[0])
        dns = best.get("dns")
        records = tuple(_record(entry) for entry in dns.values() if isinstance(entry, dict)) if isinstance(dns, dict) else ()
        if best.get("valid"):
            return Finding("sender", name, Verdict(Level.OK, "authenticated"), records=records)
        says = f"it is not authenticated; {sum(not record.valid for record in records)} of its DNS records are not seen yet"
        return Finding("sender", name, Verdict(Level.FAIL, says, PUBLISH), records=records)

    def _webhook(self, wanted: Wanted, reply: Reply) -> Finding:
        if not reply.is_fine:
            return not_answered("webhook", self._name, reply)
        remedy = apply_remedy(self._name)
        on = dict.fromkeys(("enabled", *EVENTS), True)
        own = next((hook for hook in entries(reply.content, "webhooks") if hook.get("url") == wanted.webhook_url), None)
        if own is None:
            create = Question("POST", _SETTINGS, content={**on, "url": wanted.webhook_url, "friendly_name": "rotord"})
            return Finding("webhook", self._name, Verdict(Level.FAIL, f"no event is posted to {wanted.webhook_url}", remedy), create)
        missing = [name for name in on if not own.get(name)]
        if missing:
            change = Question("PATCH", f"{_SETTINGS}/{own.get('id')}", content={**on, "url": wanted.webhook_url})
            return Finding("webhook", self._name, Verdict(Level.FAIL, f"not switched on: {', '.join(missing)}", remedy), change)
        return Finding("webhook", self._name, Verdict(Level.OK, f"every event is posted to {wanted.webhook_url}"))

    def _parse(self, domain: str, wanted: Wanted, reply: Reply) -> Finding:
        name = f"{self._name} {domain}"
        if not reply.is_fine:
            return not_answered("inbound", name, reply)
        own = next((entry for entry in entries(reply.content, "result") if entry.get("hostname") == domain), None)
        records = (Record("MX", domain, "10 mx.sendgrid.net."),)
        if own is None:
            content = {"hostname": domain, "url": wanted.inbound_url, "spam_check": False, "send_raw": True}
            verdict = Verdict(Level.WARN, "no setting brings its replies", apply_remedy(self._name))
            return Finding("inbound", name, verdict, Question("POST", "/v3/user/webhooks/parse/settings", content=content), records)
        if own.get("url") != wanted.inbound_url:
            says = "its replies are posted elsewhere"
            return Finding("inbound", name, Verdict(Level.WARN, says, f"change the setting there to {wanted.inbound_url}"), None, records)
        return Finding("inbound", name, Verdict(Level.OK, f"replies are posted to {wanted.inbound_url}"), None, records)


def _record(entry: dict[str, Any]) -> Record:
    kind = str(entry.get("type") or "cname").upper()
    return Record(kind, str(entry.get("host") or ""), str(entry.get("data") or ""), bool(entry.get("valid")))
