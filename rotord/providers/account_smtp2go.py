"""SMTP2GO's account: sender domains and webhooks. It has no inbound mail. Every question is a POST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rotord.core.authentication import Level, Verdict
from rotord.providers.account import PUBLISH, Finding, Question, Record, Reply, apply_remedy, entries, no_address, not_answered, not_let_in
from rotord.providers.smtp2go import error
from rotord.providers.smtp2go_activity import HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.providers.account import Survey, Wanted
    from rotord.providers.http import ApiConfig

EVENTS: Final = ("processed", "delivered", "open", "click", "bounce", "spam", "unsubscribe", "reject")


class Smtp2goAccount:
    """Questions and what their answers show; `base_url` ends in /v3."""

    def __init__(self, config: ApiConfig) -> None:
        self._name = config.name
        self.headers: Mapping[str, str] = {"X-Smtp2go-Api-Key": config.api_key}
        self.secrets: tuple[str, ...] = (config.api_key,)

    def account(self, domains: Sequence[str], wanted: Wanted) -> Survey:
        """Everything: nothing has to be asked of a domain alone."""
        reply = yield Question("POST", "/domain/view", content={})
        if not reply.is_fine:
            return [_not_let_in(self._name, reply)]
        found = [Finding("provider", self._name, Verdict(Level.OK, "smtp2go: its key is let in"))]
        found += [self._domain(domain, reply) for domain in domains]
        if not domains:
            return found
        if not wanted.webhook_url:
            return [*found, no_address(self._name, "webhook")]
        reply = yield Question("POST", "/webhook/view", content={})
        return [*found, self._webhook(wanted, reply)]

    def domain(self, domain: str, wanted: Wanted) -> Survey:  # noqa: ARG002 - of a domain alone there is nothing to ask
        """Nothing."""
        yield from ()
        return []

    def words(self, content: Any) -> str:
        """Code and text, as when sending."""
        return " ".join(error(content)).strip()

    def _domain(self, domain: str, reply: Reply) -> Finding:
        name = f"{self._name} {domain}"
        for entry in entries(reply.content, "data", "domains"):
            there = entry.get("domain")
            if isinstance(there, dict) and str(there.get("fulldomain", "")).lower() == domain:
                records = tuple(_records(domain, there, entry))
                if there.get("dkim_verified") and there.get("rpath_verified"):
                    return Finding("sender", name, Verdict(Level.OK, "verified"), records=records)
                says = f"it is not verified; {sum(not record.valid for record in records)} of its DNS records are not seen yet"
                return Finding("sender", name, Verdict(Level.FAIL, says, PUBLISH), records=records)
        verdict = Verdict(Level.FAIL, "this account does not have it", apply_remedy(self._name))
        return Finding("sender", name, verdict, Question("POST", "/domain/add", content={"domain": domain}))

    def _webhook(self, wanted: Wanted, reply: Reply) -> Finding:
        if not reply.is_fine:
            return not_answered("webhook", self._name, reply)
        hooks = entries(reply.content, "data", "webhooks") or entries(reply.content, "data")
        own = [hook for hook in hooks if hook.get("url") == wanted.webhook_url]
        told = {str(event) for hook in own for event in hook.get("events") or ()}
        missing = [event for event in EVENTS if event not in told]
        if not missing:
            return Finding("webhook", self._name, Verdict(Level.OK, f"every event is posted to {wanted.webhook_url}"))
        says = f"not posted to {wanted.webhook_url}: {', '.join(missing)}"
        if not wanted.token:
            remedy = f"set webhook_key of [providers.{self._name}] to a long random text, then rotord provider sync apply"
            return Finding("webhook", self._name, Verdict(Level.FAIL, says, remedy))
        content = {"url": wanted.webhook_url, "events": missing, "headers": [HEADER], "output_format": "json"}
        content |= {"auth_header_type": "bearer", "auth_header_value": wanted.token}
        remedy = apply_remedy(self._name)
        return Finding("webhook", self._name, Verdict(Level.FAIL, says, remedy), Question("POST", "/webhook/add", content=content))


def _not_let_in(name: str, reply: Reply) -> Finding:
    # a key that lacks the right gets 400 here
    return not_let_in(name, reply._replace(status=403) if "PERMISSION" in reply.words else reply)


def _records(domain: str, there: dict[str, Any], entry: dict[str, Any]) -> list[Record]:
    """`*_expected` is what to publish, `*_value` what it sees, or in older answers the same."""

    def one(where: str, source: dict[str, Any], prefix: str) -> Record:
        value = source.get(f"{prefix}_expected") or source.get(f"{prefix}_value") or ""
        return Record("CNAME", f"{where}.{domain}", str(value), bool(source.get(f"{prefix}_verified")))

    records = [one(f"{there.get('dkim_selector')}._domainkey", there, "dkim"), one(str(there.get("rpath_selector")), there, "rpath")]
    records += [one(str(tracker.get("subdomain")), tracker, "cname") for tracker in entries(entry, "trackers") if tracker.get("enabled")]
    return [record for record in records if record.value]
