"""Telegram and Slack over real HTTP: what arrives, what each refusal means, and that no error names the secret."""

import socket

import pytest

from rotord.alerts.base import Told
from rotord.alerts.slack import Slack
from rotord.alerts.telegram import Telegram
from rotord.core.alerting import Words
from tests.doubles.slack import SlackDouble
from tests.doubles.telegram import CHAT, TOKEN, TelegramDouble, failure

WORDS = Words("CRITICAL: provider down: mailgun_eu", ("<refused> & 'gone'", "do: look"))


@pytest.fixture
async def telegram(tmp_path):
    async with TelegramDouble(tmp_path) as double:
        yield double


@pytest.fixture
async def slack(tmp_path):
    async with SlackDouble(tmp_path) as double:
        yield double


async def test_both_get_the_words_escaped_as_each_wants_it(telegram, slack):
    assert await Telegram(telegram.url, TOKEN, CHAT).tell(WORDS) == Told(is_told=True)
    assert await Slack(slack.webhook_url).tell(WORDS) == Told(is_told=True)

    assert telegram.truth()[0]["text"] == "<b>CRITICAL: provider down: mailgun_eu</b>\n&lt;refused&gt; &amp; 'gone'\ndo: look"
    assert slack.truth() == [{"text": "*CRITICAL: provider down: mailgun_eu*\n&lt;refused&gt; &amp; 'gone'\ndo: look"}]


async def test_the_longest_message_of_wide_letters_is_taken(telegram):
    assert (await Telegram(telegram.url, TOKEN, CHAT).tell(Words("😀" * 3000, ("😀&" * 3000,)))).is_told


async def test_too_many_waits_as_long_as_asked(telegram, slack):
    telegram.refusals.append((429, failure(429, "Too Many Requests: retry after 7", retry_after=7), {}))
    slack.refusals.append((429, "rate_limited", {"Retry-After": "9"}))

    told = await Telegram(telegram.url, TOKEN, CHAT).tell(WORDS)

    assert (told.is_told, told.wait_s, told.is_final) == (False, 7, False)

    told = await Slack(slack.webhook_url).tell(WORDS)

    assert (told.is_told, told.wait_s, told.is_final) == (False, 9, False)


@pytest.mark.parametrize(
    ("status", "is_final"), [(302, True), (403, True), (404, True), (408, False), (410, True), (500, False), (502, False)]
)
async def test_what_a_person_must_mend_is_final_and_what_passes_is_not(telegram, slack, status, is_final):
    telegram.refusals.append((status, failure(status, "Forbidden: bot was blocked by the user"), {"Location": "/elsewhere"}))
    slack.refusals.append((status, "action_prohibited", {"Location": "/elsewhere"}))
    for told in (await Telegram(telegram.url, TOKEN, CHAT).tell(WORDS), await Slack(slack.webhook_url).tell(WORDS)):
        assert (told.is_told, told.is_final) == (False, is_final)
        assert told.error.startswith(str(status))
    assert (len(telegram.requests), len(slack.requests)) == (1, 1)  # no redirect was followed


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", '{"ok": true, "parameters": 5}', '{"ok": "true"}', '{"parameters": {"retry_after": "x"}}']
)
async def test_an_answer_that_is_not_the_documented_one_is_not_told(telegram, slack, body):
    telegram.refusals.append((500, body, {}))
    slack.refusals.append((200, body, {}))

    assert not (await Telegram(telegram.url, TOKEN, CHAT).tell(WORDS)).is_told
    assert not (await Slack(slack.webhook_url).tell(WORDS)).is_told


async def test_an_answer_that_comes_in_pieces_is_read_whole(telegram, slack):
    telegram.drip_s = slack.drip_s = 0.01

    assert await Telegram(telegram.url, TOKEN, CHAT).tell(WORDS) == Told(is_told=True)
    assert await Slack(slack.webhook_url).tell(WORDS) == Told(is_told=True)


async def test_a_group_that_became_a_supergroup_is_followed(telegram):
    telegram.chat = "-100999"
    telegram.refusals.append((400, failure(400, "group chat was upgraded", migrate_to_chat_id=-100999), {}))
    sink = Telegram(telegram.url, TOKEN, CHAT)

    assert (await sink.tell(WORDS)).is_told
    assert (await sink.tell(WORDS)).is_told
    assert [content["chat_id"] for _, content in telegram.requests] == [CHAT, "-100999", "-100999"]


async def test_check_tells_nobody_and_finds_a_wrong_token_chat_or_address(telegram, slack):
    assert (await Telegram(telegram.url, TOKEN, CHAT).check()).is_told
    assert (await Slack(slack.webhook_url).check()).is_told
    assert (await Telegram(telegram.url, "1:wrong", CHAT).check()).error == "401 Unauthorized"
    assert "chat not found" in (await Telegram(telegram.url, TOKEN, "-1").check()).error
    assert (await Slack(slack.url + "/services/x").check()).error == "404 no_service"
    assert telegram.truth() == slack.truth() == []


@pytest.mark.parametrize("base", ["http://127.0.0.1:{port}", "http://127.0.0.1:99999", "http://[::1", "ftp://127.0.0.1"])
async def test_no_error_names_the_secret(base, capfd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base = base.format(port=closed.getsockname()[1])
        canary = "1:canary/../x?y#z"
        for told in (await Telegram(base, canary, CHAT).tell(WORDS), await Slack(f"{base}/services/canary").tell(WORDS)):
            assert not told.is_told
            assert not told.is_final
            assert told.error
            assert "canary" not in told.error
    assert "canary" not in "".join(capfd.readouterr())
