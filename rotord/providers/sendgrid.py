"""SendGrid: `POST /v3/mail/send`, one personalization, the parts as JSON.

There is no MIME endpoint, so the mail is written by SendGrid from the parts. Our headers go along, already encoded, as its
description asks; `custom_args` bring the attempt's id back at the top level of every event, hence its prefixed name. A 202
covers the request; suppressed addresses are not refused here, they come back as `dropped` events.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import orjson

from rotord.core.api_mail import ApiMail, api_mail, tag
from rotord.core.http_replies import (
    ACCOUNT_FOR_NOW,
    NOT_LET_IN,
    PROVIDER_FOR_NOW,
    REFUSED,
    SENDER_FOR_NOW,
    accepted,
    judge,
    row,
    unreadable,
)
from rotord.providers.http import HttpProvider
from rotord.providers.http_request import Request

if TYPE_CHECKING:
    from rotord.core.http_replies import Answer, Judgement, Row
    from rotord.providers.base import Envelope
    from rotord.providers.http import ApiConfig

CATEGORY_LENGTH: Final = 255
#: what SendGrid writes itself and refuses to be given; the others of its list never get here
FORBIDDEN_HEADERS: Final = frozenset({"x-sg-id", "x-sg-eid"})
_NO_TRACKING: Final = {
    "click_tracking": {"enable": False, "enable_text": False},
    "open_tracking": {"enable": False},
    "subscription_tracking": {"enable": False},
    "ganalytics": {"enable": False},
}

ROWS: Final[tuple[Row, ...]] = (
    row([400, 403], r"(maximum|insufficient|exceeded|out of|no).{0,30}credits?|credits?.{0,30}exceeded", NOT_LET_IN),
    row([400, 403], r"(from|sender).{0,60}(verified|sender identity)|verified sender identity|sender authentication", SENDER_FOR_NOW),
    row([400], r"(account|user).{0,40}(suspended|disabled|deactivated|under review|not active)", NOT_LET_IN),
    row([400], r"(ip ?pool|pool name|asm|unsubscribe group)", ACCOUNT_FOR_NOW),
    row([403], r"\S", NOT_LET_IN),  # the key lacks the scope, or the account may not send
    row([403], r"", PROVIDER_FOR_NOW),
    row([400], r"", REFUSED),
)


class SendgridApi:
    """Requests and answers."""

    kind = "sendgrid"
    writes_mail = True

    def __init__(self, config: ApiConfig) -> None:
        self.secrets: tuple[str, ...] = (config.api_key,)
        self._headers = {"Authorization": f"Bearer {config.api_key}"}
        self._url = f"{config.base_url}/v3/mail/send"
        self._tracking = config.tracking

    def request(self, envelope: Envelope) -> Request:
        """Write the JSON."""
        mail = api_mail(envelope.message, envelope.sender, envelope.head)
        content = _content(mail)
        content["personalizations"][0]["custom_args"] = {"rotord_attempt": str(envelope.attempt_id)}
        if label := tag(envelope.message.campaign, CATEGORY_LENGTH):
            content["categories"] = [label]
        if not self._tracking:
            content["tracking_settings"] = _NO_TRACKING
        return Request(self._url, orjson.dumps(content), "application/json", self._headers)

    def judge(self, answer: Answer, now: float) -> Judgement:
        """Success is 202, whose body is empty: a body that broke off takes nothing from it."""
        if answer.status == 202:  # noqa: PLR2004 - HTTP's own number
            return accepted(answer, "", answer.headers.get("X-Message-Id", ""), now)
        if 200 <= answer.status < 300:  # noqa: PLR2004
            return unreadable(answer)  # 200 is the answer of its sandbox mode, which we never ask for
        return judge(answer, words_of(answer.body), ROWS, now)


def _content(mail: ApiMail) -> dict[str, Any]:
    content: dict[str, Any] = {
        "personalizations": [{"to": [_party(mail.recipient, mail.recipient_name)]}],
        "from": _party(mail.sender, mail.sender_name),
        # one character is the least that is taken
        "subject": mail.subject or " ",
        "content": [
            {"type": kind, "value": body} for kind, body in (("text/plain", mail.text), ("text/html", mail.html)) if body is not None
        ]
        or [{"type": "text/plain", "value": "\n"}],
        "headers": {name: value for name, value in mail.headers if name.lower() not in FORBIDDEN_HEADERS},
    }
    if mail.reply_to:
        content["reply_to"] = {"email": mail.reply_to}
    if mail.attachments:
        content["attachments"] = [
            {
                "content": base64.b64encode(file.content).decode("ascii"),
                "filename": file.filename,
                # a parameter is refused ("cannot contain ';'")
                "type": file.content_type.partition(";")[0],
                "disposition": "attachment",
            }
            for file in mail.attachments
        ]
    return content


def _party(email: str, name: str) -> dict[str, str]:
    return {"email": email, "name": name} if name else {"email": email}


def words_of(body: bytes) -> str:
    """Join the messages of `{"errors": [{"message", "field", "help"}]}` with the fields they are about."""
    try:
        errors = orjson.loads(body)["errors"]
        told = [f"{error['message']} ({error['field']})" if error.get("field") else str(error["message"]) for error in errors]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
    return "; ".join(told)


def sendgrid(config: ApiConfig) -> HttpProvider:
    """Make the provider."""
    return HttpProvider(SendgridApi(config), config)
