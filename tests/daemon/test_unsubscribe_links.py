"""The links that a daemon's messages carry: in earnest they name the message, in a rehearsal they unsubscribe nobody."""

import pytest

from rotord.core.unsubscribe import rehearsal_key, verify
from rotord.daemon import build_preparation
from rotord.settings import load

KEY = b"k" * 32
SITE = {"ROTORD_HTTP__PUBLIC_URL": "https://rotor.example", "ROTORD_HTTP__UNSUBSCRIBE_MAILTO": "out@in.example"}


@pytest.mark.parametrize(
    ("extra", "key"), [({}, KEY), ({"ROTORD_ENGINE__REDIRECT_ALL_TO": "qa@example.org"}, rehearsal_key(KEY))], ids=["earnest", "rehearsal"]
)
def test_both_links_carry_the_token_of_their_kind(tmp_path, extra, key):
    (tmp_path / "rotord.toml").touch()
    preparation = build_preparation(load(tmp_path / "rotord.toml", SITE | extra), KEY)
    url, by_mail = preparation.unsubscribe_url(7, ""), preparation.unsubscribe_mailto(7)

    assert url.startswith("https://rotor.example/u/")
    assert by_mail.startswith("mailto:out@in.example?subject=unsubscribe%20")
    assert preparation.unsubscribe_url(7, "mail.acme.example") == f"https://mail.acme.example/u/{url[-32:]}"
    assert verify(key, url[-32:]) == verify(key, by_mail[-32:]) == 7
