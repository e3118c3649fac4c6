"""The pages as a validator, a screen reader and a person with poor sight would judge them; the languages; what comes from outside."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotord.web import page
from rotord.web.page import Language
from rotord.web.ports import Addressee, Source
from rotord.web.unsubscribe import meaning

JANE = Addressee("Acme", "jane@example.org")
PAGES = {
    (name, language): text
    for language in Language
    for name, text in {
        "ask": page.ask(language, JANE),
        "done": page.done(language, JANE),
        "unknown": page.unknown(language),
        "unavailable": page.unavailable(language),
    }.items()
}
VOID = {"meta", "link", "br", "img", "input", "hr"}
EVERY_PAGE = pytest.mark.parametrize("text", PAGES.values(), ids=[f"{name}-{language}" for name, language in PAGES])


class Tree(HTMLParser):
    """Every element with its attributes; fails on what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), tag
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open:
            self.text[self._open[-1]] = self.text.get(self._open[-1], "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@EVERY_PAGE
def test_a_page_is_whole_and_has_what_a_screen_reader_needs(text):
    tree = Tree(text)

    assert text.startswith("<!DOCTYPE html>\n")
    assert re.match("en$|ru$", tree.all("html")[0]["lang"])
    assert tree.all("meta")[0] == {"charset": "utf-8"}
    viewport = next(meta["content"] for meta in tree.all("meta") if meta.get("name") == "viewport")
    assert viewport == "width=device-width, initial-scale=1"
    assert tree.text["title"].strip()
    assert (len(tree.all("main")), len(tree.all("h1"))) == (1, 1)
    assert all(svg["aria-hidden"] == "true" for svg in tree.all("svg"))
    assert "{" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)


@EVERY_PAGE
def test_a_page_needs_no_script_and_nobody_else(text):
    tree = Tree(text)

    assert {tag for tag, _ in tree.elements} & {"script", "img", "link", "iframe", "object", "embed", "base", "a"} == set()
    assert not any(name.startswith("on") or name in {"style", "href", "src", "action"} for _, attrs in tree.elements for name in attrs)
    assert "url(" not in text
    assert "//" not in text


@EVERY_PAGE
def test_the_policy_allows_this_style_and_nothing_else(text):
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()

    assert f"style-src 'sha256-{digest}';" in page.CONTENT_SECURITY_POLICY
    assert page.CONTENT_SECURITY_POLICY.startswith("default-src 'none';")


@pytest.mark.parametrize("language", Language)
def test_the_question_has_one_form_with_one_named_button(language):
    tree = Tree(PAGES["ask", language])

    assert tree.all("form") == [{"method": "post"}]
    assert tree.all("button") == [{"type": "submit", "name": "unsubscribe", "value": "page"}]
    assert tree.text["button"].strip()
    assert all(not Tree(text).all("form") for (name, _), text in PAGES.items() if name != "ask")


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_better_than_aa(scheme):
    roots = re.findall(r":root\{([^}]*)\}", PAGES["ask", Language.ENGLISH])
    assert len(roots) == 2
    colours = dict(re.findall(r"--([a-z-]+):(#[0-9a-f]+)", roots[scheme == "dark"]))
    readable = [*product(("text", "soft"), ("card",)), ("on-accent", "accent"), ("on-accent", "pressed")]

    assert {
        pair: round(contrast(colours[pair[0]], colours[pair[1]]), 1) for pair in readable if contrast(*map(colours.get, pair)) < 6.5
    } == {}
    assert contrast(colours["accent"], colours["card"]) > 3
    assert contrast(colours["done"], colours["card"]) > 3


# -- what comes from outside --------------------------------------------------------------------------------------------------------


HOSTILE = (
    "<script>alert(1)</script>",
    "</b></bdi><img src=x onerror=alert(1)>",
    '"><form action="//evil.example">',
    "&lt;i&gt;",
    "{client}",
)


@given(st.one_of(st.text(), st.sampled_from(HOSTILE)), st.one_of(st.text(min_size=1), st.sampled_from(HOSTILE)))
def test_no_name_or_address_breaks_out_of_the_page(client, local):
    for text in (
        page.ask(Language.RUSSIAN, Addressee(client, f"{local}@example.org")),
        page.done(Language.ENGLISH, Addressee(client, local)),
    ):
        tags = [tag for tag, _ in Tree(text).elements]
        assert tags.count("b") == text.count("<b>")
        assert {tag for tag in tags if tag not in OURS} == set()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_as_it_is(hostile):
    text = page.done(Language.ENGLISH, Addressee(hostile, f"x@{hostile}"))
    shown = Tree(text).text["bdi"]

    assert hostile in shown
    assert "<script" not in text
    assert "<img" not in text


OURS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "p", "b", "bdi", "form", "button", "svg", "circle", "path"}


@pytest.mark.parametrize(
    ("recipient", "shown"),
    [
        ("jane.doe@example.org", "j•••@example.org"),
        ("j@example.org", "•••@example.org"),
        ("юля@пример.рф", "ю•••@пример.рф"),
        ('"a@b"@example.org', '"•••@example.org'),
    ],
)
def test_a_recipient_is_masked(recipient, shown):
    assert page.masked(recipient) == shown


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("en-GB,en;q=0.9", "en"),
        ("ru", "ru"),
        ("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", "ru"),
        ("en;q=0.5,ru;q=0.8", "ru"),
        ("RU-by", "ru"),
        ("en,ru", "en"),
        ("de,fr;q=0.8", "en"),
        ("de,ru;q=0.1", "ru"),
        ("*", "en"),
        ("*;q=0.5,ru;q=0.1", "en"),
        ("ru;q=0", "en"),
        ("ru;q=2,en;q=nan", "en"),
        ("ru; q = 0.9", "ru"),
        ("rus", "en"),
    ],
)
def test_the_language_is_the_readers(header, language):
    assert page.preferred_language(header) == language


@given(st.text())
def test_any_header_has_a_language(header):
    assert page.preferred_language(header) in Language


PIECES = [
    *(b"--b\r\n", b"--b--", b"--c\r\n", b"\r\n\r\n", b"List-Unsubscribe", b"=", b"One-Click", b"&", b"%ff", b";"),
    b"Content-Disposition: form-data; name=",
    b"Content-Type: multipart/mixed; boundary=c\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
]
TYPES = ["multipart/form-data; boundary=b", "multipart/mixed", "text/plain", "", 'multipart/form-data; boundary*0="b"']


@settings(max_examples=200)
@given(st.sampled_from(TYPES), st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(PIECES)), max_size=15))
def test_any_body_means_something_or_nothing(content_type, pieces):
    assert meaning(content_type, b"".join(pieces)) in {None, *Source}


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click", Source.ONE_CLICK),
        ("application/x-www-form-urlencoded; charset=UTF-8", b"x=1&List-Unsubscribe=One-Click\r\n", Source.ONE_CLICK),
        ("", b"list-unsubscribe=one-click", Source.ONE_CLICK),
        ("text/plain", b"List%2DUnsubscribe=One%2DClick", Source.ONE_CLICK),
        ("application/x-www-form-urlencoded", b"unsubscribe=page", Source.PAGE),
        ("Multipart/Form-Data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="unsubscribe"\r\n\r\npage\r\n--b--', Source.PAGE),
        (
            'multipart/form-data; boundary="b c"',
            b"--b c\nContent-Disposition: form-data; name=List-Unsubscribe\nContent-Transfer-Encoding: base64\n\nT25lLUNsaWNr\n--b c--",
            Source.ONE_CLICK,
        ),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nOne-Click\r\n--b--', None),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=", None),
    ],
)
def test_a_body_says_who_pressed(content_type, body, said):
    assert meaning(content_type, body) is said
