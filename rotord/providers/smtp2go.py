"""SMTP2GO: `POST /email/send`, the parts as JSON.

It has no field for metadata or tags: X-Rotord-Attempt, a header on every route, is what its webhooks and look-ups echo, and the
attempt knows its campaign. Click and open tracking is the account's own setting, no field of a message: `tracking` changes nothing.
`fastaccept` is declined in so many words, for it is announced as the coming default: a refusal would no longer be an answer.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import orjson

from rotord.core.api_mail import api_mail, mailbox
from rotord.core.http_replies import (
    NOT_LET_IN,
    PROVIDER_FOR_NOW,
    REFUSED,
    SENDER_FOR_NOW,
    TOO_MUCH,
    Verdict,
    accepted,
    judge,
    row,
    unreadable,
)
from rotord.core.model import Blame, Outcome
from rotord.providers.answers import json_of
from rotord.providers.http import HttpProvider
from rotord.providers.http_request import Request

if TYPE_CHECKING:
    from rotord.core.http_replies import Answer, Judgement, Row
    from rotord.providers.base import Envelope
    from rotord.providers.http import ApiConfig

_ERROR_CODES: Final = "E_ApiResponseCodes."
#: it will not try: an earlier bounce, complaint or opt-out is on its own list
_SUPPRESSED: Final = Verdict(Outcome.REJECTED, Blame.RECIPIENT)
_REFUSALS: Final = (200, 400, 402, 403)

#: the patterns see `CODE text`; 200 stands for a mail that it counts as failed
ROWS: Final[tuple[Row, ...]] = (
    row([*_REFUSALS, 401], r"^ENDPOINT_PERMISSION_DENIED|api.?key.{0,40}(permission|invalid|disabled|expired|not found)", NOT_LET_IN),
    row([*_REFUSALS], r"rate.?limit|too many (requests|emails|messages)|sending too (fast|quickly)", TOO_MUCH),
    row([*_REFUSALS], r"(account|plan).{0,40}(suspended|disabled|closed|inactive|blocked|expired)", NOT_LET_IN),
    row(
        [*_REFUSALS],
        r"(quota|allowance|(monthly|daily|hourly|plan|sending|email) limit).{0,40}(exceeded|reached|used)|credits?\b",
        NOT_LET_IN,
    ),
    row([*_REFUSALS], r"(recipient|address|email).{0,60}(suppress|block ?list|unsubscribed|previously bounced)|suppress", _SUPPRESSED),
    row([*_REFUSALS], r"sender.{0,80}(verif|authori[sz]|permitted|allowed)|unverified|not verified", SENDER_FOR_NOW),
    row([200, 400], r"^NON_VALIDATING_IN_PAYLOAD|attachment|too (large|big)|valid rfc-822", REFUSED),
    # A fault of theirs, or words that nobody has documented: refused, and worth another try.
    row([200], r"", PROVIDER_FOR_NOW),
    row([400], r"^API_EXCEPTION", PROVIDER_FOR_NOW),
    row([403], r"\S", NOT_LET_IN),
    row([403], r"", PROVIDER_FOR_NOW),
)


class Smtp2goApi:
    """Requests and answers; `base_url` ends in /v3."""

    kind = "smtp2go"
    writes_mail = True

    def __init__(self, config: ApiConfig) -> None:
        self.secrets: tuple[str, ...] = (config.api_key,)
        self._headers = {"X-Smtp2go-Api-Key": config.api_key}
        self._url = f"{config.base_url}/email/send"

    def request(self, envelope: Envelope) -> Request:
        """Write the JSON."""
        mail = api_mail(envelope.message, envelope.sender, envelope.head)
        headers = list(mail.headers)
        if mail.reply_to:
            headers.append(("Reply-To", mail.reply_to))
        content: dict[str, Any] = {
            "sender": mailbox(mail.sender_name, mail.sender),
            "to": [mailbox(mail.recipient_name, mail.recipient)],
            "subject": mail.subject,
            "custom_headers": [{"header": name, "value": value} for name, value in headers],
            "fastaccept": False,
        }
        if mail.text is not None or mail.html is None:
            content["text_body"] = mail.text or "\n"
        if mail.html is not None:
            content["html_body"] = mail.html
        if mail.attachments:
            content["attachments"] = [
                {
                    "filename": file.filename,
                    "fileblob": base64.b64encode(file.content).decode("ascii"),
                    "mimetype": file.content_type,
                }
                for file in mail.attachments
            ]
        return Request(self._url, orjson.dumps(content), "application/json", self._headers)

    def judge(self, answer: Answer, now: float) -> Judgement:
        """Success is 200 with an `email_id` and no failure; the counters may be missing."""
        content = json_of(answer.body)
        if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
            code, words = error(content)
            return judge(answer, f"{code} {words}".strip(), ROWS, now, code=code)
        data = _member(content, "data")
        failed, succeeded, email_id = (data.get(key) for key in ("failed", "succeeded", "email_id"))
        if failed and not succeeded and isinstance(failed, int) and answer.complete:
            return judge(answer, _failures(data), ROWS, now)
        if failed or not isinstance(email_id, str) or not email_id or not answer.complete:
            return unreadable(answer)
        return accepted(answer, "", email_id, now)


def error(content: object) -> tuple[str, str]:
    """Find the code and the text in either of the two documented shapes; the nested one counts."""
    if not isinstance(content, dict):
        return "", ""
    data = _member(content, "data")
    told = data if "error" in data or "error_code" in data else content
    field = _member(content, "field_validation_errors") or _member(data, "field_validation_errors")
    code = str(told.get("error_code") or "").removeprefix(_ERROR_CODES)
    return code[:64], " ".join(str(words) for words in (told.get("error"), field.get("message")) if words)


def _failures(data: dict[str, Any]) -> str:
    failures = data.get("failures")
    return "; ".join(map(str, failures)) if isinstance(failures, list) else str(failures or "")


def _member(content: object, name: str) -> dict[str, Any]:
    member = content.get(name) if isinstance(content, dict) else None
    return member if isinstance(member, dict) else {}


def smtp2go(config: ApiConfig) -> HttpProvider:
    """Make the provider."""
    return HttpProvider(Smtp2goApi(config), config)
