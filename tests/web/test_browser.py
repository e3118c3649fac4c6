"""The unsubscribe page in a real browser: on a phone, by keyboard alone, without JavaScript, in the reader's language and light."""

import pytest

from tests.web.browser import CHROMIUM, browser
from tests.web.conftest import MESSAGE

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
# What a picture must not hide: everything inside the window, nothing smaller than a finger, no text below 16 px.
LAYOUT = """({
  fits: document.documentElement.scrollWidth <= innerWidth,
  outside: [...document.querySelectorAll('h1, p, button')].filter(e => {
    const box = e.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth || box.width === 0 }).length,
  button: document.querySelector('button')?.getBoundingClientRect().height ?? null,
  text: Math.min(...[...document.querySelectorAll('h1, p, button')].map(e => parseFloat(getComputedStyle(e).fontSize))),
  ground: getComputedStyle(document.body).backgroundColor,
  font: getComputedStyle(document.querySelector('h1')).fontWeight,
})"""

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]
if CHROMIUM is None:
    pytestmark.append(pytest.mark.skip("chromium is not installed"))


async def test_a_person_unsubscribes_by_keyboard_without_scripts(site, message, db, tmp_path):
    async with browser(tmp_path / "chromium") as tab:
        await tab.look(**PHONE, language="ru-RU,ru;q=0.9,en;q=0.8")
        await tab.open(site.link(message))
        told = [(role, name) for role, name, _ in await tab.accessible()]
        assert ("RootWebArea", "Отписка от рассылки") in told
        assert ("heading", "Отписаться от рассылки Acme <GmbH> & Co?") in told
        assert [name for role, name in told if role in {"button", "link", "textbox"}] == ["Отписаться"]
        assert await db.fetchval("SELECT count(*) FROM rotord.suppressions") == 0

        await tab.press("Tab")
        assert ("button", "Отписаться", True) in await tab.accessible()
        await tab.press("Enter")
        await tab.loaded()

        assert ("heading", "Вы отписаны", False) in await tab.accessible()
        assert await tab.evaluate("document.documentElement.lang") == "ru"
        assert await tab.evaluate("location.href") == site.link(message)
        assert await tab.evaluate("document.cookie") == ""
    assert [tuple(row) for row in await db.fetch("SELECT client, recipient, source FROM rotord.suppressions")] == [
        ("acme", "jane.doe@example.org", "page")
    ]
    assert tab.problems == []
    assert set(tab.requests) == {site.link(message)}


async def test_it_is_readable_at_every_size_and_in_both_lights(site, db, tmp_path):
    name = "International Association for the Advancement of Extraordinarily Long Names (" + "x" * 60 + ")"
    await db.execute("UPDATE rotord.clients SET name = $1 WHERE slug = 'acme'", name)
    row = await db.fetchval(MESSAGE, "acme", "somebody@" + "a-long-label." * 8 + "example.org")
    grounds = {}
    async with browser(tmp_path / "chromium") as tab:
        for size in (PHONE, DESK, {"width": 320, "height": 568}):
            for dark in (False, True):
                await tab.look(**size, dark=dark)
                await tab.open(site.link(row))
                seen = await tab.evaluate(LAYOUT)
                assert (seen["fits"], seen["outside"], seen["font"]) == (True, 0, "650"), (size, dark, seen)
                assert seen["button"] >= 44
                assert seen["text"] >= 16
                grounds[dark] = seen["ground"]
                assert (await tab.picture()).startswith(b"\x89PNG")

    assert grounds == {False: "rgb(244, 245, 247)", True: "rgb(15, 20, 27)"}
    assert tab.problems == []


async def test_a_wrong_link_and_a_missing_database_have_a_page_too(site, tmp_path):
    async with browser(tmp_path / "chromium") as tab:
        await tab.look(**PHONE)
        await tab.open(site.url("/u/" + "A" * 32))
        assert ("heading", "This link does not work", False) in await tab.accessible()
        assert (await tab.evaluate(LAYOUT))["fits"]
