"""What SMTP2GO tells of a mail: `POST /v3/activity/search`, and webhooks that carry a bearer or basic header and no signature."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from tests.doubles.http_api import Answer
from tests.doubles.webhooks import HOUR, MINUTE, Post, Webhook, now_text

_LARGEST_PAGE = 1000
#: the webhook's name, then the activity's
NAMES = {
    "accepted": ("processed", "processed"),
    "delivered": ("delivered", "delivered"),
    "deferred": ("bounce", "soft-bounced"),
    "bounced": ("bounce", "hard-bounced"),
    "soft_bounced": ("bounce", "soft-bounced"),
    "dropped": ("reject", "rejected"),
    "complained": ("spam", "spam"),
    "unsubscribed": ("unsubscribe", "unsubscribed"),
    "opened": ("open", "opened"),
    "clicked": ("click", "clicked"),
    "failed_later": ("bounce", "hard-bounced"),
}
_FIELDS = {
    "deferred": {"bounce": "soft", "message": "451 4.3.0 Try later", "context": "RCPT TO", "host": "mx.example.net"},
    "bounced": {"bounce": "hard", "message": "550 5.1.1 No such user", "context": "RCPT TO", "host": "mx.example.net"},
    "failed_later": {"bounce": "hard", "message": "550 5.1.1 No such user", "context": "RCPT TO", "host": "mx.example.net"},
    "soft_bounced": {"bounce": "soft", "message": "552 5.2.2 Mailbox full", "context": "RCPT TO", "host": "mx.example.net"},
    "delivered": {"message": "250 OK", "host": "mx.example.net"},
    "dropped": {"reason": "recipient is suppressed", "message": "recipient is suppressed"},
    "clicked": {"url": "https://acme.example/", "user-agent": "Mozilla/5.0"},
    "opened": {"user-agent": "Mozilla/5.0", "read-secs": 5},
}


def event(happening, echoed):
    taken = happening.taken
    sent = datetime.fromtimestamp(taken.at, UTC).isoformat()
    about = {"recipients": [taken.to]} if happening.kind == "accepted" else {"rcpt": taken.to}
    return {
        "event": NAMES[happening.kind][0],
        "time": now_text(happening.at),
        "sendtime": sent,
        "sender": taken.sender,
        "from": taken.sender,
        "from_address": taken.sender,
        "from_name": "",
        "email_id": taken.provider_id,
        "id": "hook-1",
        "message-id": taken.message_id,
        "subject": taken.subject,
        "auth": "api-key",
        **about,
        **{name: value for name, value in taken.echo.items() if name.casefold() in echoed},
        **_FIELDS.get(happening.kind, {}),
        **happening.details,
    }


class Smtp2goWebhook(Webhook):
    """One event a post, as JSON or (its default) as a form. 35 tries in 48 h at most; ten seconds for the answer's head."""

    retry_after_s = (*[7.5 * MINUTE] * 4, *[HOUR] * 24, *[3.75 * HOUR] * 6)
    timeout_s = 10.0
    #: what its setting `headers` names
    echoed = ("x-rotord-attempt",)
    output_format = "json"
    auth = "bearer"

    def posts(self, happenings):
        return [self.authorized(event(one, self.echoed)) for one in happenings]

    def authorized(self, data, *, token=None):
        token = token or self.double.webhook_token
        value = f"Bearer {token}" if self.auth == "bearer" else f"Basic {base64.b64encode(token.encode()).decode()}"
        if self.output_format == "json":
            return Post(json.dumps(data).encode(), {"Content-Type": "application/json", "Authorization": value})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": value}
        return Post(urlencode(data, doseq=True).encode(), headers)


def routes(double):
    async def search(request):
        return await double.looked_up(request, lambda one: _search(double, one))

    return [web.post("/v3/activity/search", search)]


async def _search(double, request):
    wanted = json.loads(await request.read())
    limit = wanted.get("limit", _LARGEST_PAGE)
    if not 0 < limit <= _LARGEST_PAGE:
        return _answer(400, {"error": "limit is out of range", "error_code": "E_ApiResponseCodes.NON_VALIDATING_IN_PAYLOAD"})
    begin, end = (_moment(wanted.get(name)) for name in ("start_date", "end_date"))
    found = [
        _line(one, wanted)
        for one in double.happenings.visible(recipient=wanted.get("search_recipient"), provider_id=wanted.get("search_email_id"))
        if (begin is None or one.at >= begin)
        and (end is None or one.at <= end)
        and wanted.get("search_sender", one.taken.sender) == one.taken.sender
        and NAMES[one.kind][1] in (wanted.get("event_types") or [NAMES[one.kind][1]])
    ]
    if wanted.get("only_latest"):
        found = list({one["email_id"]: one for one in found}.values())
    at = int(wanted.get("continue_token") or 0)
    data = {"events": found[at : at + limit], "total_events": len(found)}
    if at + limit < len(found):
        data["continue_token"] = str(at + limit)
    return _answer(200, data)


def _line(one, wanted):
    shown = {name.casefold() for name in wanted.get("custom_headers") or []}
    fields = _FIELDS.get(one.kind, {})
    return {
        "email_id": one.taken.provider_id,
        "event": NAMES[one.kind][1],
        "date": now_text(one.at),
        "recipient": one.taken.to,
        "sender": one.taken.sender,
        "subject": one.taken.subject,
        "smtp_response": fields.get("message", ""),
        "host": fields.get("host", ""),
        "reason": fields.get("reason", ""),
        "outbound_ip": "192.0.2.1",
        "custom_headers": {name: value for name, value in one.taken.echo.items() if name.casefold() in shown},
    }


def _moment(text):
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _answer(status, data):
    return Answer(status, json.dumps({"request_id": "r", "data": data}).encode())
