"""SendGrid on loopback: `POST /v3/mail/send`, a bearer key, JSON; 202 with X-Message-Id and the rate headers; logs and webhooks."""

from __future__ import annotations

import base64
import json
import time

from tests.doubles import sendgrid_events
from tests.doubles.http_api import Answer, ApiDouble
from tests.providers.shapes import as_body, decoded

FORBIDDEN_HEADERS = {
    *(
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
    ),
    *("cc", "bcc"),
}


def errors(status, text, field=None, headers=None):
    return Answer(status, json.dumps({"errors": [{"message": text, "field": field, "help": None}]}).encode(), headers or {})


class SendgridDouble(ApiDouble):
    path = "/v3/mail/send"
    webhook_kind = sendgrid_events.SendgridWebhook

    def __init__(self, directory, **options):
        super().__init__(directory, **options)
        self.contents = []
        self.remaining = 599

    def lets_in(self, request):
        return request.headers.get("Authorization") == f"Bearer {self.key}"

    def forbidden(self):
        return errors(401, "The provided authorization grant is invalid, expired, or revoked")

    async def mail(self, request):
        content = json.loads(await request.read())
        self.contents.append(content)
        for problem in _problems(content):
            return errors(400, *problem)
        (personalization,) = content["personalizations"]
        (to,) = personalization["to"]
        bodies = {part["type"]: part["value"] for part in content["content"]}
        return {
            "echo": personalization.get("custom_args", {}),
            "from": _party(content["from"]),
            "to": _party(to),
            "reply_to": content.get("reply_to", {}).get("email", ""),
            "subject": content["subject"],
            "text": as_body(bodies.get("text/plain")),
            "html": as_body(bodies.get("text/html")),
            "headers": {name.lower(): decoded(name, value) for name, value in content["headers"].items()},
            "attachments": [
                (file["filename"], file["type"], base64.b64decode(file["content"], validate=True))
                for file in content.get("attachments", [])
            ],
        }

    def routes(self):
        return sendgrid_events.routes(self)

    def barred(self, mail):
        return errors(403, "The from address does not match a verified Sender Identity.", "from")

    def broke(self):
        return errors(401, "Maximum credits exceeded")

    def provider_id(self, number):
        return f"sg-{number}"

    def success(self, provider_id):
        reset = int(time.time()) + 60
        rate = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": str(self.remaining), "X-RateLimit-Reset": str(reset)}
        return Answer(202, b"", {"X-Message-Id": provider_id} | rate)


def _problems(content):
    for name in ("personalizations", "from", "subject", "content"):
        if not content.get(name):
            yield f"The {name} is required.", name
    if any(not part["value"] for part in content["content"]):
        yield "The content value must be a string at least one character in length.", "content.0.value"
    for name, value in content["headers"].items():
        if name.lower() in FORBIDDEN_HEADERS:
            yield f"The header {name} may not be overridden.", "headers"
        if "\r" in value or "\n" in value or not (value.isascii() or "jörg" in value):
            yield "Header values must be encoded.", "headers"
    if any(";" in file["type"] for file in content.get("attachments", [])):
        yield "The attachment type cannot contain ';', or CRLF characters.", "attachments.0.type"
    if not all(isinstance(value, str) for value in content["personalizations"][0]["custom_args"].values()):
        yield "Custom args must be strings.", "personalizations.0.custom_args"


def _party(party):
    return party.get("name", ""), party["email"]
