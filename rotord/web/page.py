"""The pages a person sees: plain HTML that needs no script, no font, no picture and nobody else's server.

English and Russian. Everything that comes from outside is escaped here. The style stands in the page and is allowed by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotord.web.ports import Addressee


class Language(StrEnum):
    """What the pages are written in."""

    ENGLISH = "en"
    RUSSIAN = "ru"


@dataclass(frozen=True, slots=True)
class _Words:
    """`{client}` and `{recipient}` are filled in, escaped."""

    ask_title: str
    ask_heading: str
    ask_text: str
    button: str
    done_title: str
    done_heading: str
    done_text: str
    done_note: str
    unknown_title: str
    unknown_text: str
    unavailable_title: str
    unavailable_text: str


_WORDS: Final = {
    Language.ENGLISH: _Words(
        ask_title="Unsubscribe",
        ask_heading="Unsubscribe from {client}?",
        ask_text="Its mailings will no longer be sent to {recipient}.",
        button="Unsubscribe",
        done_title="Unsubscribed",
        done_heading="You are unsubscribed",
        done_text="No more mailings from {client} will be sent to {recipient}.",
        done_note="A message that is already on its way may still arrive. You can close this page.",
        unknown_title="This link does not work",
        unknown_text="It may have been cut short. Please open it again from the message, or copy all of it.",
        unavailable_title="Not possible right now",
        unavailable_text="Nothing has been changed. Please try again in a minute.",
    ),
    Language.RUSSIAN: _Words(
        ask_title="Отписка от рассылки",
        ask_heading="Отписаться от рассылки {client}?",
        ask_text="Письма больше не будут приходить на адрес {recipient}.",
        button="Отписаться",
        done_title="Вы отписаны",
        done_heading="Вы отписаны",
        done_text="Рассылка {client} больше не будет приходить на адрес {recipient}.",
        done_note="Письмо, которое уже отправлено, ещё может прийти. Эту страницу можно закрыть.",
        unknown_title="Ссылка не работает",
        unknown_text="Возможно, она скопирована не полностью. Откройте её ещё раз из письма или скопируйте целиком.",
        unavailable_title="Сейчас не получилось",
        unavailable_text="Ничего не изменилось. Попробуйте ещё раз через минуту.",
    ),
}

# Contrast of every pair of text and ground is above 7:1, of the button's edge above 3:1 (WCAG 2.2, 1.4.6 and 1.4.11).
_STYLE: Final = """
:root{color-scheme:light dark;--ground:#f4f5f7;--card:#fff;--edge:#dfe3e8;--text:#1b2430;--soft:#465261;--accent:#1d4ed8;\
--pressed:#173fae;--on-accent:#fff;--done:#0f6b3c;--shadow:0 1px 2px #1018280d,0 12px 32px #10182814}
@media(prefers-color-scheme:dark){:root{--ground:#0f141b;--card:#181f29;--edge:#2b3543;--text:#eef1f5;--soft:#b4bfcc;\
--accent:#9dbcff;--pressed:#c0d4ff;--on-accent:#0b1a3a;--done:#74d9a2;--shadow:none}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;min-height:100vh;min-height:100svh;display:grid;place-items:center;padding:1.25rem;background:var(--ground);\
color:var(--text);font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main{width:100%;max-width:30rem;padding:2rem 1.5rem;background:var(--card);border:1px solid var(--edge);border-radius:1rem;\
box-shadow:var(--shadow);overflow-wrap:anywhere}
h1{margin:0 0 .75rem;font-size:1.5rem;line-height:1.25;font-weight:650;letter-spacing:-.01em;text-wrap:balance}
p{margin:0 0 .75rem;color:var(--soft);text-wrap:pretty}
p:last-child,form{margin-bottom:0}
b{color:var(--text);font-weight:600}
form{margin-top:1.75rem}
button{width:100%;min-height:3rem;padding:.75rem 1.5rem;border:0;border-radius:.625rem;background:var(--accent);\
color:var(--on-accent);font:inherit;font-weight:600;cursor:pointer}
button:hover,button:active{background:var(--pressed)}
button:focus-visible{outline:3px solid var(--text);outline-offset:3px}
svg{display:block;width:2.5rem;height:2.5rem;margin:0 0 1rem;color:var(--done)}
@media(min-width:36rem){main{padding:2.75rem}button{width:auto;min-width:13rem}}
@media(forced-colors:active){button{border:2px solid ButtonText}}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: goes with every page: nothing is loaded, the form goes nowhere else, nobody frames it
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: what the page's button posts; RFC 8058's own words are for the mailbox providers
FORM_FIELD: Final = ("unsubscribe", "page")

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""
_TICK: Final = (
    '<svg viewBox="0 0 40 40" fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round" stroke-linejoin="round"'
    ' aria-hidden="true"><circle cx="20" cy="20" r="18"/><path d="m12 20.5 5.5 5.5L28.5 15"/></svg>\n'
)


def ask(language: Language, addressee: Addressee) -> str:
    """The question, with one button."""
    words = _WORDS[language]
    name, value = FORM_FIELD
    # Without an action the form goes to the page's own address, whatever prefix a proxy has put before it.
    form = f'<form method="post"><button type="submit" name="{name}" value="{value}">{words.button}</button></form>'
    return _page(
        language, words.ask_title, f"<h1>{_fill(words.ask_heading, addressee)}</h1>\n<p>{_fill(words.ask_text, addressee)}</p>\n{form}"
    )


def done(language: Language, addressee: Addressee) -> str:
    """It is so, now or since earlier: a person need not care which."""
    words = _WORDS[language]
    text = f"<p>{_fill(words.done_text, addressee)}</p>\n<p>{words.done_note}</p>"
    return _page(language, words.done_title, f"{_TICK}<h1>{words.done_heading}</h1>\n{text}")


def unknown(language: Language) -> str:
    """The link is none of ours. Says the same for a forged one and for a row that is not there."""
    words = _WORDS[language]
    return _page(language, words.unknown_title, f"<h1>{words.unknown_title}</h1>\n<p>{words.unknown_text}</p>")


def unavailable(language: Language) -> str:
    """The database is away."""
    words = _WORDS[language]
    return _page(language, words.unavailable_title, f"<h1>{words.unavailable_title}</h1>\n<p>{words.unavailable_text}</p>")


def masked(recipient: str) -> str:
    """Enough for the person to know the address by, too little for who finds the link: `j•••@example.com`."""
    local, _, domain = recipient.rpartition("@")
    return f"{local[:1] if len(local) > 1 else ''}•••@{domain}"


def preferred_language(accept_language: str) -> Language:
    """Choose by the header of that name (RFC 9110, 12.5.4); English for who reads neither, or says nothing we understand."""
    weights: dict[str, float] = {}
    for entry in accept_language[:1000].split(","):
        tag, _, parameter = entry.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        weights[primary] = max(weights.get(primary, 0.0), _weight(parameter))
    others = weights.get("*", 0.0)
    # max takes the first of equals
    return max(Language, key=lambda language: weights.get(language.value, others))


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if not name.strip():
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0


def _fill(words: str, addressee: Addressee) -> str:
    # <bdi>: a right-to-left name must not turn the sentence round.
    client, recipient = (f"<b><bdi>{escape(text)}</bdi></b>" for text in (addressee.client, masked(addressee.recipient)))
    return words.format(client=client, recipient=recipient)


def _page(language: Language, title: str, content: str) -> str:
    return _PAGE.format(language=language.value, title=title, style=_STYLE, content=content)
