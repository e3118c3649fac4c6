"""SMTP2GO on loopback: `POST /v3/email/send`, a key in a header, JSON; 200 that may itself say that the mail failed;
activity and webhooks.
"""

from __future__ import annotations

import base64
import json

from tests.doubles import smtp2go_events
from tests.doubles.http_api import Answer, ApiDouble
from tests.providers.shapes import as_body, decoded, split_mailbox

FORBIDDEN_HEADERS = {"content-type", "content-transfer-encoding", "mime-version"}


def error(status, code, text):
    data = {"error": text, "error_code": f"E_ApiResponseCodes.{code}"}
    return Answer(status, json.dumps({"request_id": "r", "data": data}).encode())


class Smtp2goDouble(ApiDouble):
    path = "/v3/email/send"
    webhook_token = "the-webhook-token"
    webhook_kind = smtp2go_events.Smtp2goWebhook

    def __init__(self, directory, **options):
        super().__init__(directory, **options)
        self.suppressed = set()
        self.contents = []

    @property
    def url(self):
        return super().url + "/v3"

    def lets_in(self, request):
        return request.headers.get("X-Smtp2go-Api-Key") == self.key

    def forbidden(self):
        return error(401, "API_EXCEPTION", "No valid API key was provided")

    async def mail(self, request):
        content = json.loads(await request.read())
        self.contents.append(content)
        if not content.get("sender") or not content.get("to") or not (content.get("text_body") or content.get("html_body")):
            return error(400, "NON_VALIDATING_IN_PAYLOAD", "An error occurred processing the json data you sent with the request")
        headers = {one["header"].lower(): decoded(one["header"], one["value"]) for one in content["custom_headers"]}
        if headers.keys() & FORBIDDEN_HEADERS:
            return error(400, "NON_VALIDATING_IN_PAYLOAD", "That header cannot be set")
        (to,) = content["to"]
        if split_mailbox(to)[1] in self.suppressed:
            data = {"succeeded": 0, "failed": 1, "failures": [f"{to}: recipient is suppressed"]}
            return Answer(200, json.dumps({"request_id": "r", "data": data}).encode())
        return {
            "echo": {one["header"]: one["value"] for one in content["custom_headers"]},
            "from": split_mailbox(content["sender"]),
            "to": split_mailbox(to),
            "reply_to": headers.pop("reply-to", ""),
            "subject": content["subject"],
            "text": as_body(content.get("text_body")),
            "html": as_body(content.get("html_body")),
            "headers": headers,
            "attachments": [
                (file["filename"], file["mimetype"].partition(";")[0], base64.b64decode(file["fileblob"], validate=True))
                for file in content.get("attachments", [])
            ],
        }

    def routes(self):
        return smtp2go_events.routes(self)

    def barred(self, mail):
        return error(400, "NON_VALIDATING_IN_PAYLOAD", f"The sender {mail['from'][1]} is not verified")

    def broke(self):
        return error(402, "API_EXCEPTION", "Your monthly email limit has been reached")

    def provider_id(self, number):
        return f"s2g-{number}"

    def success(self, provider_id):
        data = {"succeeded": 1, "failed": 0, "failures": [], "email_id": provider_id}
        return Answer(200, json.dumps({"request_id": "r", "data": data}).encode())
