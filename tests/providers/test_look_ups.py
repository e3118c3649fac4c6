"""What each look-up asks, and what every documented answer to it shows."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from rotord.core.http_replies import Answer
from rotord.core.lookups import Found, Missing, Sought, Trouble, Unclear, UnclearError
from rotord.providers.look_up import HttpLookUp, LookUpConfig
from rotord.providers.mailgun_events import MailgunEvents
from rotord.providers.sendgrid_logs import LIMIT, MOST_DETAILS, SendgridLogs
from rotord.providers.smtp2go_activity import Smtp2goActivity
from tests.providers.answers import config

SOUGHT = Sought(7, 4711, "<m1@acme.example>", "a@acme.example", "Anna@Example.net", 1_800_000_000.0, 1_800_000_060.0)
KINDS = [MailgunEvents, SendgridLogs, Smtp2goActivity]
MAILGUN_EVENT = {
    "event": "accepted",
    "timestamp": 1_800_000_001.5,
    "message": {"headers": {"message-id": "m1@acme.example"}},
    "user-variables": {"rotord-attempt": "4711"},
}
SENDGRID_MESSAGE = {
    "sg_message_id": "id1.filter-0",
    "from_email": "a@acme.example",
    "status": "delivered",
    "sg_message_id_created_at": "2027-01-15T08:00:02Z",
}
SENDGRID_DETAIL = {"status": "delivered", "events": [], "custom_args": {"rotord_attempt": "4711"}}
SMTP2GO_EVENT = {"event": "processed", "email_id": "e1", "date": "2027-01-15T08:00:02Z", "custom_headers": {"X-Rotord-Attempt": "4711"}}


def answer(content, status=200, headers=None):
    return Answer(status, CIMultiDict(headers or {}), content if isinstance(content, bytes) else json.dumps(content).encode())


def look(api, *contents, sought=SOUGHT):
    """Answer a search's queries in turn; returns what it found and what it asked."""
    search, asked = api.search(sought), []
    try:
        asked.append(next(search))
        for content in contents:
            asked += [search.send(answer(content))]
    except StopIteration as end:
        return end.value, asked
    except UnclearError as error:
        return str(error), asked
    raise AssertionError(f"it asks on: {asked[-1]}")


def events(*changes, following="https://elsewhere.example/v3/acme.example/events/TOKEN=="):
    items = [MAILGUN_EVENT | change for change in changes]
    return {"items": items, "paging": {"next": following}}


def mailgun(*contents, sought=SOUGHT):
    return look(MailgunEvents(config()), *contents, sought=sought)


@pytest.mark.parametrize("following", ["http://[x/events/a", "https://api.example/v3/", "", None, 7])
def test_a_next_page_that_is_no_address_makes_mailguns_log_unclear(following):
    unclear, _ = mailgun({"items": [{"message": {}}], "paging": {"next": following}})

    assert unclear == "its answer names no next page"


def test_mailgun_is_asked_by_message_id_without_brackets_in_the_senders_domain():
    found, asked = mailgun(events({}))

    assert asked == [
        ("https://api.example/v3/acme.example/events?message-id=m1%40acme.example&begin=1799999700&ascending=yes&limit=300", None)
    ]
    assert Found("m1@acme.example", 1_800_000_001.5, "accepted") == found


def test_mailguns_next_page_is_asked_of_the_configured_host_until_one_is_empty():
    found, asked = mailgun(events({"message": {"headers": {"message-id": "m2@acme.example"}}}), events())

    assert found is None
    assert asked[1].url == "https://api.example/v3/acme.example/events/TOKEN=="


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([{"event": "failed", "severity": "permanent", "reason": "bounce"}], (False, "failed")),
        ([{}, {"event": "failed", "severity": "permanent", "reason": "suppress-bounce"}], (True, "failed: suppress-bounce")),
        ([{}, {"event": "rejected", "reject": {"reason": "not authorized"}}], (True, "rejected: not authorized")),
        ([{}, {"event": "delivered"}, {"event": "failed", "reason": "suppress-complaint"}], (False, "accepted, delivered, failed")),
        ([{"event": "opened", "user-variables": None}], (False, "opened")),
        ([{"user-variables": "(could not be loaded)"}], (False, "accepted")),
    ],
)
def test_what_mailguns_events_say(changes, expected):
    found, _ = mailgun(events(*changes))

    assert expected == (found.refused, found.words)


def test_events_of_another_attempt_of_the_message_are_no_proof_and_forbid_a_third():
    other = {"user-variables": {"rotord-attempt": "99"}}

    assert mailgun(events(other, {"event": "opened", "user-variables": {}}), events())[0] == "it has another attempt of this message"


def test_mailgun_ends_after_a_few_pages():
    found, asked = mailgun(*[events({"message": {}})] * 5)

    assert (found, len(asked)) == ("more than 5 pages of events", 5)


def sendgrid(*contents, sought=SOUGHT):
    return look(SendgridLogs(config()), *contents, sought=sought)


def test_sendgrid_is_asked_by_recipient_and_time_then_for_each_message_that_it_could_be():
    other = {**SENDGRID_MESSAGE, "sg_message_id": "other/1", "from_email": "x@elsewhere.example"}
    found, asked = sendgrid({"messages": [other]}, {"messages": [SENDGRID_MESSAGE]}, SENDGRID_DETAIL)

    first, second = (json.loads(query.body)["query"] for query in asked[:2])
    times = (
        ' AND sg_message_id_created_at > TIMESTAMP "2027-01-15T07:54:59Z" AND sg_message_id_created_at < TIMESTAMP "2027-01-15T09:01:01Z"'
    )
    assert ("to_email = 'Anna@Example.net'" + times, "to_email = 'anna@example.net'" + times) == (first, second)
    assert asked[2:] == [("https://api.example/v3/logs/id1.filter-0", None)]
    assert Found("id1.filter-0", 1_800_000_002.0, "delivered") == found


@pytest.mark.parametrize(
    ("summaries", "detail", "expected"),
    [
        ([SENDGRID_MESSAGE], {**SENDGRID_DETAIL, "custom_args": {"rotord_attempt": "99"}}, None),
        ([SENDGRID_MESSAGE], {**SENDGRID_DETAIL, "custom_args": {}}, None),
        ([SENDGRID_MESSAGE], {"status": "delivered"}, "a message that it could be is shown without its custom_args"),
        ([{**SENDGRID_MESSAGE, "from_email": "x@y.example"}], {"status": "delivered"}, None),
    ],
)
def test_sendgrids_message_is_ours_only_by_the_attempts_id(summaries, detail, expected):
    assert expected == sendgrid({"messages": summaries}, {"messages": []}, detail)[0]


def test_what_sendgrid_dropped_reached_nobody():
    dropped = {**SENDGRID_DETAIL, "status": "dropped", "events": [{"event": "dropped", "reason": "Bounced Address"}]}

    found, _ = sendgrid({"messages": [SENDGRID_MESSAGE]}, {"messages": []}, dropped)

    assert (found.refused, found.words) == (True, "dropped: Bounced Address")


@pytest.mark.parametrize(
    ("count", "says"),
    [(LIMIT, f"{LIMIT} or more messages to its recipient"), (MOST_DETAILS + 1, f"{MOST_DETAILS + 1} messages to its recipient")],
)
def test_sendgrid_with_too_many_messages_to_a_recipient_is_left_to_a_person(count, says):
    messages = [{**SENDGRID_MESSAGE, "sg_message_id": str(number)} for number in range(count)]

    assert says == sendgrid({"messages": messages}, {"messages": []})[0]


def test_sendgrids_language_cannot_ask_for_a_quote():
    sought = SOUGHT.__class__(7, 1, "<m>", "a@acme.example", "o'brien@example.net", 0.0, 60.0)

    assert sendgrid(sought=sought) == ("its query language has no way to write this recipient", [])


def smtp2go(*contents, sought=SOUGHT):
    return look(Smtp2goActivity(config()), *contents, sought=sought)


def test_smtp2go_is_asked_by_recipient_and_time_with_our_header_page_by_page():
    foreign = {**SMTP2GO_EVENT, "custom_headers": {}}
    found, asked = smtp2go(
        {"data": {"events": [foreign], "continue_token": "T"}},
        {"data": {"events": [{**SMTP2GO_EVENT, "custom_headers": {"x-rotord-attempt": "4711"}}]}},
    )

    first, second = (json.loads(query.body) for query in asked)
    assert first == {
        "start_date": "2027-01-15T07:55:00Z",
        "end_date": "2027-01-15T09:01:00Z",
        "search_recipient": "Anna@Example.net",
        "custom_headers": ["X-Rotord-Attempt"],
        "only_latest": False,
        "limit": 1000,
    }
    assert first | {"continue_token": "T"} == second
    assert Found("e1", 1_800_000_002.0, "processed") == found


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], None),
        ([{**SMTP2GO_EVENT, "custom_headers": {"X-Rotord-Attempt": "99"}}], None),
        ([{"event": "processed"}], "an event is shown without its header X-Rotord-Attempt"),
        (
            [{**SMTP2GO_EVENT, "event": "rejected", "reason": "suppressed"}],
            Found("e1", 1_800_000_002.0, "rejected: suppressed", refused=True),
        ),
        ([SMTP2GO_EVENT, {**SMTP2GO_EVENT, "event": "delivered"}], Found("e1", 1_800_000_002.0, "delivered, processed")),
    ],
)
def test_what_smtp2gos_events_say(told, expected):
    assert expected == smtp2go({"data": {"events": told}})[0]


NAMES = [
    "items",
    "paging",
    "next",
    "event",
    "timestamp",
    "message",
    "headers",
    "message-id",
    "user-variables",
    "rotord-attempt",
    "messages",
    "sg_message_id",
    "custom_args",
    "rotord_attempt",
    "status",
    "events",
    "data",
    "custom_headers",
    "reason",
    "continue_token",
    "X-Rotord-Attempt",
    "date",
    "email_id",
    "reject",
    "error",
    "error_code",
    "errors",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner | st.sampled_from(["m1@acme.example", "4711", "rejected", "failed", "suppress-x"]),
            max_size=5,
        )
    ),
    max_leaves=15,
)


@pytest.mark.parametrize("kind", KINDS)
@given(contents=st.lists(JSON, min_size=8, max_size=8))
@settings(max_examples=60, deadline=None)
def test_no_answer_makes_a_search_fail_otherwise_than_by_saying_so(kind, contents):
    api = kind(config())
    with contextlib.suppress(AssertionError):
        found, _ = look(api, *contents)
        assert found is None or isinstance(found, (str, Found))
    for content in contents:
        assert isinstance(api.words(answer(content, 400)), str)


class Server:
    """Answers each request with the next of `answers`."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.seen = []
        self.bodies = []

    async def __aenter__(self):
        async def handle(request):
            self.seen.append(request)
            self.bodies.append(await request.read())
            status, content, headers = self.answers.pop(0)
            return web.Response(
                status=status, body=content if isinstance(content, bytes) else json.dumps(content).encode(), headers=headers
            )

        app = web.Application()
        app.router.add_route("*", "/{anything:.*}", handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()


async def ask(kind, server_url, **changes):
    api = kind(config(base_url=server_url))
    look_up = HttpLookUp("api", api, LookUpConfig(**({"grace_s": 1.0, "per_minute": 6000} | changes)))
    try:
        return await look_up.ask(SOUGHT)
    finally:
        await look_up.close()


BARRED = [
    (MailgunEvents, 401, b'"Forbidden"'),
    (MailgunEvents, 403, {"message": "Forbidden"}),
    (SendgridLogs, 401, {"errors": [{"message": "authorization required"}]}),
    (SendgridLogs, 403, {"errors": [{"message": "access forbidden"}]}),
    (Smtp2goActivity, 400, {"data": {"error": "no permission", "error_code": "E_ApiResponseCodes.ENDPOINT_PERMISSION_DENIED"}}),
    (Smtp2goActivity, 401, {"error": "No valid API key", "error_code": "E_ApiResponseCodes.API_EXCEPTION"}),
]


@pytest.mark.parametrize(("kind", "status", "content"), BARRED)
async def test_a_key_without_the_right_is_a_persons_business(kind, status, content):
    async with Server((status, content, {})) as server:
        finding = await ask(kind, server.url)

    assert isinstance(finding, Trouble)
    assert finding.lasting
    assert "api_key may not" in finding.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "content", "headers", "expected"),
    [
        (429, {"message": "slow down"}, {"Retry-After": "17"}, (Trouble, 17.0)),
        (429, {}, {}, (Trouble, 60.0)),
        (500, b"oh", {}, (Trouble, None)),
        (408, {}, {}, (Trouble, None)),
        (403, b"<html>firewall</html>", {}, (Trouble, None)),
        (302, b"", {"Location": "http://127.0.0.1:1/"}, (Trouble, None)),
        (200, b"{", {}, (Unclear, None)),
    ],
)
async def test_what_other_answers_mean(kind, status, content, headers, expected):
    async with Server((status, content, headers)) as server:
        finding = await ask(kind, server.url)

    assert expected == (type(finding), getattr(finding, "wait_s", None))
    assert not getattr(finding, "lasting", False)


async def test_an_unknown_domain_is_one_messages_business():
    async with Server((404, {"message": "Domain not found: acme.example"}, {})) as server:
        finding = await ask(MailgunEvents, server.url)

    assert Unclear("404 Domain not found: acme.example") == finding


async def test_nobody_there_is_trouble():
    assert isinstance(await ask(MailgunEvents, "http://127.0.0.1:1"), Trouble)


async def test_the_key_goes_along_and_into_no_text():
    async with Server((400, {"message": "bad canary-key"}, {}), (200, {"items": []}, {})) as server:
        finding = await ask(MailgunEvents, server.url)
        complete = await ask(MailgunEvents, server.url)

    assert Unclear("400 bad ***") == finding
    assert Missing() == complete
    assert all(request.headers["Authorization"].startswith("Basic ") for request in server.seen)


async def test_requests_keep_to_the_rate():
    loop = asyncio.get_running_loop()
    page = {"items": [{}], "paging": {"next": "http://x/v3/acme.example/events/T"}}
    async with Server(*[(200, page, {})] * 3, (200, {"items": []}, {})) as server:
        began = loop.time()
        await ask(MailgunEvents, server.url, per_minute=600)
        took_s = loop.time() - began

    assert len(server.seen) == 4
    assert took_s >= 0.29


async def test_in_a_rehearsal_the_recipient_of_all_mail_is_asked_for():
    async with Server((200, {"data": {"events": []}}, {})) as server:
        finding = await ask(Smtp2goActivity, server.url, redirect_to="qa@example.org")

    assert Missing() == finding
    assert json.loads(server.bodies[0])["search_recipient"] == "qa@example.org"


@pytest.mark.parametrize("at", [1e300, -1.0])
async def test_a_time_that_cannot_be_is_none(at):
    async with Server((200, events({"timestamp": at}), {})) as server:
        finding = await ask(MailgunEvents, server.url)

    assert finding.at is None
