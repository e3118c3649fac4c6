"""SPF, DMARC and DKIM records: each fault is named with its remedy, and what receivers accept is accepted."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rotord.core.authentication import Level, dkim, dkim_name, dmarc, dmarc_names, is_dmarc, spf

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL


@pytest.mark.parametrize(
    ("texts", "level", "says"),
    [
        ([], FAIL, "there is no SPF record, so nobody can tell who may send from it"),
        (["v=spf10 -all", "google-site-verification=x"], FAIL, "there is no SPF record, so nobody can tell who may send from it"),
        (["v=spf1 -all", "V=SPF1 mx -all"], FAIL, "there are 2 SPF records, which counts as an error"),
        (["v=spf1 mx +all"], FAIL, "its SPF record lets everybody send (+all)"),
        (["v=spf1 ALL"], FAIL, "its SPF record lets everybody send (+all)"),
        (["v=spf1 " + "include:x.example " * 11 + "-all"], FAIL, "its SPF record asks for 11 look-ups, which counts as an error"),
        (
            ["v=spf1 a:x mx/24 ptr exists:y +include:z redirect=w " * 2],
            FAIL,
            "its SPF record asks for 12 look-ups, which counts as an error",
        ),
        (["v=spf1 " + "include:x.example " * 10 + "ip4:1.2.3.4 -all"], OK, "v=spf1 " + "include:x.example " * 10 + "ip4:1.2.3.4 -all"),
        (["v=spf1 ip4:1.2.3.4"], WARN, "its SPF record says nothing about everybody else"),
        (["v=spf1"], WARN, "its SPF record says nothing about everybody else"),
        (["v=spf1 redirect=x.example"], OK, "v=spf1 redirect=x.example"),
        (["other", "v=spf1 mx ?all"], OK, "v=spf1 mx ?all"),
    ],
)
def test_spf(texts, level, says):
    verdict = spf("a.example", texts)

    assert (verdict.level, verdict.says) == (level, says)
    assert bool(verdict.remedy) == (level is not OK)


@pytest.mark.parametrize(
    ("texts", "inherited", "level", "says"),
    [
        ([], False, WARN, "there is no DMARC record, which Gmail, Yahoo and Microsoft want of bulk senders"),
        (["v=spf1 -all"], False, WARN, "there is no DMARC record, which Gmail, Yahoo and Microsoft want of bulk senders"),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], False, FAIL, "there are 2 DMARC records, so none counts"),
        (["v=DMARC1; rua=mailto:x@a.example"], False, FAIL, "its DMARC record has p=, so it does not count"),
        (["v=DMARC1; p=on"], False, FAIL, "its DMARC record has p=on, so it does not count"),
        (["v=DMARC1; p=Reject; sp=none"], False, OK, "p=reject"),
        (["v=DMARC1;p=reject;sp=none"], True, OK, "p=none of its parent domain"),
        (["v = DMARC1 ; p = quarantine"], True, OK, "p=quarantine of its parent domain"),
    ],
)
def test_dmarc(texts, inherited, level, says):
    verdict = dmarc("a.example", texts, inherited=inherited)

    assert (verdict.level, verdict.says) == (level, says)
    assert bool(verdict.remedy) == (level is not OK)


def test_the_record_of_a_parent_is_looked_for_up_to_the_organisation():
    assert dmarc_names("a.b.example.com") == ["_dmarc.a.b.example.com", "_dmarc.b.example.com", "_dmarc.example.com"]
    assert dmarc_names("example.com") == ["_dmarc.example.com"]
    assert dmarc_names("localhost") == ["_dmarc.localhost"]
    assert not is_dmarc("v=DMARC10; p=none")


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def published(key, form=PublicFormat.SubjectPublicKeyInfo):
    encoding = Encoding.Raw if form is PublicFormat.Raw else Encoding.DER
    return base64.b64encode(key.public_key().public_bytes(encoding, form)).decode()


RSA, ED25519 = rsa.generate_private_key(65537, 1024), ed25519.Ed25519PrivateKey.generate()
PLACE = dkim_name("a.example", "s1")


@pytest.mark.parametrize(
    ("key", "record"),
    [
        (RSA, f"v=DKIM1; k=rsa; p={published(RSA)}"),
        (RSA, f"p={published(RSA, PublicFormat.PKCS1)}"),
        (RSA, f"v=DKIM1; t=s; p={published(RSA)[:60]} {published(RSA)[60:]};"),
        (ED25519, f"v=DKIM1; k=ed25519; p={published(ED25519, PublicFormat.Raw)}"),
    ],
    ids=["rsa", "rsa in PKCS1", "rsa in pieces", "ed25519"],  # keys are new each time, and names must not be
)
def test_our_key_is_recognised_however_it_is_written(key, record):
    assert dkim(PLACE, ["something else", record], pem(key)) == (OK, "the key at s1._domainkey.a.example is ours", "")


@pytest.mark.parametrize(
    ("texts", "level", "says"),
    [
        ([], FAIL, "there is no DKIM key at s1._domainkey.a.example"),
        (["v=DKIM1; p="], FAIL, "the DKIM key at s1._domainkey.a.example is revoked (its p= is empty or no base64)"),
        (["v=DKIM1; p=!"], FAIL, "the DKIM key at s1._domainkey.a.example is revoked (its p= is empty or no base64)"),
        (["v=DKIM1; p=AAAA"], FAIL, "the DKIM key at s1._domainkey.a.example is not that of the private key, so every signature fails"),
        (["p=AAAA", "p=BBBB"], FAIL, "there are 2 DKIM keys at s1._domainkey.a.example, of which a verifier takes any"),
        ([f"t=y:s; p={published(RSA)}"], WARN, "the DKIM key at s1._domainkey.a.example says that it is only a test (t=y)"),
    ],
)
def test_a_wrong_key_record(texts, level, says):
    verdict = dkim(PLACE, texts, pem(RSA))

    assert (verdict.level, verdict.says) == (level, says)
    assert verdict.remedy


def test_what_to_publish_is_what_is_then_accepted():
    for key in (RSA, ED25519):
        remedy = dkim(PLACE, [], pem(key)).remedy

        assert dkim(PLACE, [remedy.split('"')[1]], pem(key)).level is OK


def test_another_kind_of_key_is_no_dkim_key():
    with pytest.raises(ValueError, match="neither RSA nor Ed25519"):
        dkim(PLACE, [], pem(ec.generate_private_key(ec.SECP256R1())))
