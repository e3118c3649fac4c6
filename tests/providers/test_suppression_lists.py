"""Each provider's lists, read page by page and added to: whom they name and why, in the shapes that it publishes."""

from __future__ import annotations

import json

import pytest

from rotord.core.lookups import Trouble, Unclear, UnclearError
from rotord.core.suppression_lists import Added, Entry, ListKey, Page, Span, marked, reason_of
from rotord.providers.suppression_list import MOST_REFUSED, HttpLists, ListConfig
from rotord.providers.suppression_mailgun import MailgunLists
from rotord.providers.suppression_sendgrid import SendgridLists
from rotord.providers.suppression_smtp2go import Smtp2goLists
from tests.doubles import suppression_lists as doubles
from tests.doubles.http_api import Fault
from tests.providers.answers import answer, config
from tests.providers.http_support import base_url, double

DOMAIN = "acme-mail.example"
ALL = Span(None, 1_800_000_000.0)
APIS = {"mailgun": MailgunLists, "sendgrid": SendgridLists, "smtp2go": Smtp2goLists}
DOUBLES = {"mailgun": doubles.MailgunLists, "sendgrid": doubles.SendgridLists, "smtp2go": doubles.Smtp2goLists}
AT = 1_765_417_780.0


def read(kind, name, content, cursor=""):
    return APIS[kind](config()).read(ListKey(name, DOMAIN), cursor, answer(200, content))


def whom(page):
    return [(entry.recipient, entry.reason) for entry in page.entries]


# What each publishes as an example of its lists.
MAILGUN_NEXT = "https://api.mailgun.net/v3/acme-mail.example/bounces?page=next&address=foo%40bar.com&limit=100"
PUBLISHED = [
    (
        "mailgun",
        "bounces",
        {
            "items": [{"address": "Foo@bar.com", "code": "550", "created_at": "Thu, 11 Dec 2025 01:49:40 UTC", "error": "No such mailbox"}],
            "paging": {"first": "u", "last": "u", "next": MAILGUN_NEXT, "previous": "u"},
        },
        [("foo@bar.com", "hard_bounce")],
        "page=next&address=foo%40bar.com&limit=1000",
    ),
    (
        "mailgun",
        "unsubscribes",
        {
            "items": [{"address": "alice@example.com", "created_at": "Thu, 11 Dec 2025 01:49:40 UTC", "tags": ["some tag"]}],
            "paging": {"next": MAILGUN_NEXT},
        },
        [("alice@example.com", "unsubscribe")],
        "page=next&address=foo%40bar.com&limit=1000",
    ),
    (
        "mailgun",
        "complaints",
        {"items": [{"address": "a@b.c", "created_at": "Thu, 11 Dec 2025 01:49:40 UTC"}], "paging": {"next": MAILGUN_NEXT}},
        [("a@b.c", "complaint")],
        "page=next&address=foo%40bar.com&limit=1000",
    ),
    ("mailgun", "bounces", {"items": [], "paging": {}}, [], ""),
    (
        "sendgrid",
        "bounces",
        [{"created": 1250337600, "email": "example@example.com", "reason": "550 5.1.1 The email account ...", "status": "5.1.1"}],
        [("example@example.com", "hard_bounce")],
        "",
    ),
    (
        "sendgrid",
        "invalid_emails",
        [{"created": 1449953655, "email": "user1@example.com", "reason": "Mail domain mentioned in email address is unknown"}],
        [("user1@example.com", "hard_bounce")],
        "",
    ),
    (
        "sendgrid",
        "spam_reports",
        [{"created": 1443651141, "email": "user1@example.com", "ip": "10.63.202.100"}],
        [("user1@example.com", "complaint")],
        "",
    ),
    ("sendgrid", "unsubscribes", [{"created": 1443651154, "email": "user2@example.com"}], [("user2@example.com", "unsubscribe")], ""),
    (
        "smtp2go",
        "suppressions",
        {
            "request_id": "0d782ff6-63f2-11ed-9e11-f23c92160e3c",
            "data": {
                "continue_token": None,
                "results": [
                    {
                        "block_description": "",
                        "complaint": "",
                        "email_address": "temp@example.com",
                        "reason": "manual",
                        "subject": None,
                        "timestamp": "2022-11-14 07:54:45",
                    }
                ],
                "total_results": 1,
            },
        },
        [("temp@example.com", "manual")],
        "",
    ),
]


@pytest.mark.parametrize(("kind", "name", "content", "expected", "following"), PUBLISHED)
def test_a_published_page_names_its_recipients_and_why(kind, name, content, expected, following):
    page = read(kind, name, content)

    assert (whom(page), page.following, page.others) == (expected, following, 0)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [("bounce", "hard_bounce"), ("spam", "complaint"), ("Unsubscribe", "unsubscribe"), ("compliance", "manual"), ("new one", None)],
)
def test_every_type_of_smtp2gos_list_has_a_reason_and_an_unknown_one_is_left_out(listed, expected):
    results = [{"email_address": "a@b.example", "reason": listed, "block_description": ""}]
    page = read("smtp2go", "suppressions", {"data": {"continue_token": "t", "results": results}})

    assert (whom(page), page.others) == ([("a@b.example", expected)] if expected else [], 0 if expected else 1)
    assert page.following == "t"


@pytest.mark.parametrize(
    "address",
    [
        "example.com",
        "",
        None,
        7,
        "a b@c.example",
        "a@b@c.example",
        "x" * 400 + "@b.example",
        "nul\0@b.example",
        "\u0130" * 310 + "@b.example",
    ],
)
def test_what_is_no_address_is_left_out_and_counted(address):
    page = read("smtp2go", "suppressions", {"data": {"continue_token": None, "results": [{"email_address": address, "reason": "manual"}]}})

    assert page == Page((), "", 1)


def test_what_was_added_comes_back_as_what_it_was():
    for reason in ("hard_bounce", "complaint", "unsubscribe", "manual"):
        assert reason_of(marked(reason), "other") == reason
        item = {"email_address": "a@b.example", "reason": "manual", "block_description": marked(reason)}
        assert whom(read("smtp2go", "suppressions", {"data": {"continue_token": None, "results": [item]}})) == [("a@b.example", reason)]
    for text in ("rotord: because", "No such mailbox", None, "rotord: manual, he said"):
        assert reason_of(text, "other") == "other"


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("mailgun", "bounces", {"items": [{"address": "a@b.example"}], "paging": {"next": None}}),
        ("mailgun", "bounces", {"items": [{"address": "a@b.example"}], "paging": {"next": "http://[not an address"}}),
        ("mailgun", "bounces", {"items": "none"}),
        ("mailgun", "bounces", []),
        ("sendgrid", "bounces", {"errors": []}),
        ("sendgrid", "bounces", ["a@b.example"]),
        ("smtp2go", "suppressions", {"data": None}),
        ("smtp2go", "suppressions", {"data": {"results": None}}),
        ("smtp2go", "suppressions", b"<html>"),
    ],
)
def test_an_answer_that_is_not_the_documented_one_is_unclear(kind, name, content):
    with pytest.raises(UnclearError):
        read(kind, name, content)


def test_a_page_is_asked_of_our_host_whatever_the_answer_says():
    page = read("mailgun", "bounces", PUBLISHED[0][2] | {"paging": {"next": "https://evil.example/steal?address=a%40b&page=next&x=1"}})
    query = MailgunLists(config()).page(ListKey("bounces", "Bücher.example"), ALL, page.following)

    assert query.url == "https://api.example/v3/xn--bcher-kva.example/bounces?address=a%40b&page=next&limit=1000"


def test_what_is_new_is_asked_for_with_a_day_to_spare():
    span = Span(AT, AT + 3600)
    sendgrid = SendgridLists(config()).page(ListKey("bounces"), span, "500").url
    smtp2go = json.loads(Smtp2goLists(config()).page(ListKey("suppressions"), span, "t").body)

    assert sendgrid.endswith(f"?limit=500&offset=500&end_time={int(AT) + 3600}&start_time={int(AT) - 86400}")
    assert (smtp2go["start_date"], smtp2go["continue_token"]) == ("2025-12-10T01:49:40Z", "t")
    assert "start_time" not in SendgridLists(config()).page(ListKey("bounces"), ALL, "").url


# -- at the doubles -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=APIS)
def kind(request):
    return request.param


def lists_of(kind, server, key=None):
    settings = config(base_url=base_url(kind, server.port), api_key=key or server.key)
    return HttpLists(kind, APIS[kind](settings), ListConfig(per_minute=60_000))


async def everything(lists, span=ALL):
    found = {}
    for key in lists.keys([DOMAIN]):
        cursor, pages = "", 0
        while True:
            page = await lists.page(key, span, cursor)
            assert isinstance(page, Page), page
            found |= {entry.recipient: entry.reason for entry in page.entries}
            cursor, pages = page.following, pages + 1
            if not cursor:
                break
    return found


def fill(kind, there, count):
    """So many of each list, and whom the list is to be read as."""
    expected = {}
    if kind == "mailgun":
        reasons = {"bounces": "hard_bounce", "complaints": "complaint", "unsubscribes": "unsubscribe"}
    elif kind == "sendgrid":
        reasons = {"bounces": "hard_bounce", "invalid_emails": "hard_bounce", "spam_reports": "complaint", "unsubscribes": "unsubscribe"}
    else:
        reasons = {"bounce": "hard_bounce", "spam": "complaint", "unsubscribe": "unsubscribe", "manual": "manual"}
    for name, reason in reasons.items():
        for number in range(count):
            address = f"{name}{number}+x@example.org"
            if kind == "mailgun":
                there.put(DOMAIN, name, address)
            elif kind == "sendgrid":
                there.put(name, address, at=AT)
            else:
                there.put(address, name, at=AT)
            expected[address] = reason
    return expected


async def test_every_page_is_read_to_the_end(kind, tmp_path):
    there = DOUBLES[kind]()
    expected = fill(kind, there, {"mailgun": 1001, "sendgrid": 501, "smtp2go": 3}[kind])
    async with double(kind, tmp_path, extra=[there]) as server:
        lists = lists_of(kind, server)
        try:
            assert await everything(lists) == expected
        finally:
            await lists.close()


async def test_what_is_added_is_there_and_comes_back_as_what_it_was(kind, tmp_path):
    there = DOUBLES[kind]()
    reasons = {f"{reason}@example.org": reason for reason in ("hard_bounce", "complaint", "unsubscribe", "manual")}
    entries = [Entry(recipient, reason, AT) for recipient, reason in reasons.items()]
    async with double(kind, tmp_path, extra=[there]) as server:
        lists = lists_of(kind, server)
        try:
            for _ in range(2):
                assert await lists.add(DOMAIN, entries) == Added(4)
            found = await everything(lists, Span(None, AT * 2))
        finally:
            await lists.close()

    assert found == (dict.fromkeys(reasons, "unsubscribe") if kind == "sendgrid" else reasons)


async def test_one_bad_address_costs_no_other(kind, tmp_path):
    there = DOUBLES[kind]()
    entries = [Entry("refused@example.org" if n == 13 else f"{n}@example.org", "hard_bounce", AT) for n in range(20)]
    async with double(kind, tmp_path, extra=[there]) as server:
        lists = lists_of(kind, server)
        try:
            added = await lists.add(DOMAIN, entries)
            found = await everything(lists, Span(None, AT * 2))
        finally:
            await lists.close()

    assert (added.taken, len(added.refused), len(found)) == (19, 1, 19)
    assert len(there.requests) < 40


async def test_many_refusals_are_trouble_and_not_as_many_requests(kind, tmp_path):
    there = DOUBLES[kind]()
    entries = [Entry(f"refused{n}@example.org", "hard_bounce", AT) for n in range(100)]
    async with double(kind, tmp_path, extra=[there]) as server:
        lists = lists_of(kind, server)
        try:
            added = await lists.add(DOMAIN, entries)
        finally:
            await lists.close()

    assert isinstance(added, Trouble)
    assert len(there.requests) < 10 + 2 * MOST_REFUSED


async def test_a_key_without_the_right_waits_for_a_person_and_is_told_to_nobody(kind, tmp_path):
    there = DOUBLES[kind]()
    async with double(kind, tmp_path, extra=[there]) as server:
        lists = lists_of(kind, server, key="canary-wrong-key")
        try:
            page = await lists.page(lists.keys([DOMAIN])[0], ALL, "")
            added = await lists.add(DOMAIN, [Entry("a@example.org", "manual", AT)])
        finally:
            await lists.close()

    for trouble in (page, added):
        assert isinstance(trouble, Trouble)
        assert trouble.lasting
        assert "api_key" in trouble.reason
        assert "canary" not in trouble.reason


async def test_too_many_requests_wait_as_long_as_is_said(kind, tmp_path):
    there = DOUBLES[kind]()
    async with double(kind, tmp_path, extra=[there]) as server:
        lists = lists_of(kind, server)
        server.look_up_faults.append(Fault(status=429, headers={"Retry-After": "77"}))
        server.look_up_faults.append(Fault(status=503))
        try:
            first, second = [await lists.page(lists.keys([DOMAIN])[0], ALL, "") for _ in range(2)]
        finally:
            await lists.close()

    assert (first.wait_s, first.lasting) == (77.0, False)
    assert isinstance(second, Trouble)


async def test_a_domain_that_the_account_does_not_have_is_unclear(tmp_path):
    async with double("mailgun", tmp_path, extra=[doubles.MailgunLists()]) as server:
        lists = lists_of("mailgun", server)
        try:
            page = await lists.page(ListKey("bounces", "elsewhere.example"), ALL, "")
        finally:
            await lists.close()

    assert isinstance(page, Unclear)
    assert "Domain not found" in page.reason


async def test_a_next_page_that_no_text_column_takes_is_unclear(tmp_path):
    results = [{"email_address": "a@b.example", "reason": "manual"}]
    async with double("smtp2go", tmp_path, extra=[doubles.Smtp2goLists()]) as server:
        lists = lists_of("smtp2go", server)
        server.look_up_faults.append(Fault(body=json.dumps({"data": {"continue_token": "nul\0", "results": results}}).encode()))
        try:
            page = await lists.page(lists.keys([DOMAIN])[0], ALL, "")
        finally:
            await lists.close()

    assert page == Unclear("its answer names no page as the next one")
