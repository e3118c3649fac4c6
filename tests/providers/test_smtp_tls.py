"""STARTTLS, implicit TLS and AUTH against aiosmtpd, with certificates that are right, for another host, or of nobody."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from contextlib import asynccontextmanager

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rotord.core.model import Blame, Outcome
from tests.providers.support import MIME, envelope, send, send_by, smtp, until

NOT_BEFORE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
NOT_AFTER = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)


def certificate(directory, name, address):
    """A self-signed certificate for one IP address, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    return {name: certificate(directory, name, ip) for name, ip in (("right", "127.0.0.1"), ("elsewhere", "127.0.0.9"))}


class Inbox:
    def __init__(self):
        self.envelopes = []

    async def handle_DATA(self, _server, _session, an_envelope):  # noqa: N802 - aiosmtpd's name
        self.envelopes.append(an_envelope)
        return "250 2.0.0 Ok: queued as aio1"


@asynccontextmanager
async def aiosmtpd(pem, *, implicit=False, auth=False):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    inbox = Inbox()

    def authenticate(_server, _session, _envelope, _mechanism, given):
        return AuthResult(handled=False, success=given.login == b"relay" and given.password == b"right")

    def session():
        starttls = None if implicit else context
        return SMTP(
            inbox,
            hostname="aio.invalid",
            tls_context=starttls,
            require_starttls=not implicit,
            authenticator=authenticate,
            auth_required=auth,
            auth_require_tls=not implicit,
            enable_SMTPUTF8=True,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
    try:
        yield server.sockets[0].getsockname()[1], inbox
    finally:
        server.close()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_verified_session_carries_mail(certificates, tls):
    pem = certificates["right"]
    async with aiosmtpd(pem, implicit=tls == "implicit") as (port, inbox), smtp(port, tls=tls, ca_file=str(pem)) as provider:
        reply = await send(provider)

    assert reply.outcome is Outcome.ACCEPTED
    assert reply.provider_message_id == "aio1"
    assert inbox.envelopes[0].content == MIME


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize(("served", "trusted", "words"), [("right", "", "certificate"), ("elsewhere", "elsewhere", "127.0.0.1")])
async def test_a_certificate_that_does_not_verify_is_refused_and_named(certificates, tls, served, trusted, words):
    ca_file = str(certificates[trusted]) if trusted else ""
    async with (
        aiosmtpd(certificates[served], implicit=tls == "implicit") as (port, inbox),
        smtp(port, tls=tls, ca_file=ca_file) as provider,
    ):
        provider.want(1)
        await until(lambda: provider.status().up is False)
        status = provider.status()

    assert "the certificate does not verify" in status.reason
    assert words in status.reason
    assert provider.take() is None
    assert inbox.envelopes == []


async def test_a_server_without_starttls_is_not_spoken_to_in_plain_text(certificates):
    async with aiosmtpd(certificates["right"], implicit=True) as (port, _), smtp(port, tls="starttls", connect_timeout_s=0.3) as provider:
        await until(lambda: provider.status().up is False)

        assert "no answer" in provider.status().reason


async def test_a_missing_ca_file_is_a_reason_and_no_crash(tmp_path):
    async with smtp(9, tls="implicit", ca_file=str(tmp_path / "none.pem")) as provider:
        await until(lambda: provider.status().up is False)

        assert "none.pem" in provider.status().reason


async def test_the_right_password_lets_us_in(certificates):
    pem = certificates["right"]
    async with (
        aiosmtpd(pem, auth=True) as (port, _),
        smtp(port, tls="starttls", ca_file=str(pem), username="relay", password="right") as provider,
    ):
        assert (await send(provider)).outcome is Outcome.ACCEPTED


async def test_a_wrong_password_takes_the_provider_down_and_is_not_tried_at_speed(certificates):
    pem = certificates["right"]
    async with (
        aiosmtpd(pem, auth=True) as (port, _),
        smtp(port, tls="starttls", ca_file=str(pem), username="relay", password="wrong") as provider,
    ):
        await until(lambda: provider.status().up is False)
        status = provider.status()

    assert "535" in status.reason
    assert "wrong" not in status.reason
    assert status.next_try_in_s > 25


async def test_a_server_that_wants_a_login_we_do_not_have_costs_the_messages_nothing_and_gets_no_more(certificates):
    pem = certificates["right"]
    async with aiosmtpd(pem, auth=True) as (port, _), smtp(port, tls="starttls", ca_file=str(pem)) as provider:
        provider.want(3)
        await until(lambda: provider.ready() == 3)
        reply = await send_by(provider.take(), envelope())

        assert (reply.outcome, reply.blame) == (Outcome.NOT_SENT, Blame.ACCOUNT)
        status = provider.status()
        assert (status.up, status.ready, provider.take()) == (False, 0, None)
        assert "530" in status.reason
        assert status.next_try_in_s > 25


async def test_utf8_addresses_and_8bit_bodies_go_where_they_are_offered(certificates):
    pem = certificates["right"]
    mime = "Subject: grüße\r\n\r\nümlaut\r\n".encode()
    async with aiosmtpd(pem) as (port, inbox), smtp(port, tls="starttls", ca_file=str(pem)) as provider:
        reply = await send(provider, envelope(recipient="jörg@bücher.example", mime=mime))

    assert reply.outcome is Outcome.ACCEPTED
    assert inbox.envelopes[0].rcpt_tos == ["jörg@xn--bcher-kva.example"]
    assert inbox.envelopes[0].content == mime
