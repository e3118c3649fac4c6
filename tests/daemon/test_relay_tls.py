"""A private relay as the world has it: STARTTLS with a certificate of its own authority, and a login."""

import datetime as dt
import ipaddress
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.policy_receiver import PolicyReceiver, listening
from tests.daemon.rig import Rig, running, wait_until

NOT_BEFORE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
NOT_AFTER = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)


def _name(words: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, words)])


def authority_and_certificate(folder: Path) -> tuple[Path, Path]:
    """An authority's certificate, and one for 127.0.0.1 that it signed, with its key."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("agency authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOT_BEFORE)
            .not_valid_after(NOT_AFTER)
        )

    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    authority = (
        builder("agency authority", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder("relay", key.public_key()).add_extension(address, critical=False).sign(authority_key, hashes.SHA256())
    ca_file, pem = folder / "authority.pem", folder / "relay.pem"
    ca_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return ca_file, pem


@pytest.mark.timeout(90)
async def test_500_messages_go_through_a_relay_with_starttls_and_a_login(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    ca_file, pem = authority_and_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    logins: Counter[bool] = Counter()

    def authenticate(_server: Any, session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        right = (given.login, given.password) == (b"rotord", b"right") and session.ssl is not None
        logins[right] += 1
        return AuthResult(success=right, handled=False)

    await Fleet().add(db, "acme", domains=2, addresses=5)
    await insert_rows(db, "acme", 500)
    async with listening(PolicyReceiver(), context=context, authenticator=authenticate) as one:
        toml = (
            f'[providers.relay]\nkind = "smtp"\nhost = "127.0.0.1"\nport = {one.port}\nconnections = 8\n'
            f'username = "rotord"\npassword = "right"\nca_file = "{ca_file}"\n'
        )
        async with running(Rig(database_url, tmp_path, toml)) as rig:
            assert await wait_until(db, "count(*) = 500 FROM rotord.messages WHERE status = 'sent'", 60), rig.log[-2000:]
            assert await rig.stop() == 0
    print(f"500 messages over {logins[True]} sessions with TLS and a login")

    assert len({given.header("x-row") for given in one.taken}) == len(one.taken) == 500
    assert set(logins) == {True}
    assert logins[True] <= 8
