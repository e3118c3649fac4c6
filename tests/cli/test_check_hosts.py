"""check: a client's own unsubscribe host is asked over HTTPS, past a proxy as in life; each way not to get there has its words."""

import asyncio
import datetime as dt
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rotord.cli.check_hosts import check_hosts
from rotord.cli.check_report import Report
from rotord.core.authentication import Level
from rotord.db.check import Client
from rotord.web.listener import Bounds
from tests.web.site import running_listener, running_site

HOST, UNKNOWN, CLOSED = "mail.acme.example", "gone.acme.example", "closed.acme.example"


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2090, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("hosts") / "host.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


class Names(AbstractResolver):
    """A name leads to a port of loopback, or nowhere."""

    def __init__(self, ports):
        self.ports = ports

    async def resolve(self, host, port=0, family=socket.AF_INET):
        if host not in self.ports:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        found = {"hostname": host, "host": "127.0.0.1", "port": self.ports[host], "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [found]

    async def close(self):
        pass


@asynccontextmanager
async def proxy(pem, to_port):
    """What stands before rotord: TLS outside, plain HTTP inside."""

    async def carry(reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def meet(reader, writer):
        inner, to = await asyncio.open_connection("127.0.0.1", to_port)
        async with asyncio.TaskGroup() as group:
            group.create_task(carry(reader, to))
            group.create_task(carry(inner, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(pem, ports, *, trusted=True):
    context = ssl.create_default_context(cafile=pem if trusted else None)
    connector = aiohttp.TCPConnector(resolver=Names(ports), ssl=context)
    report = Report()
    clients = [Client("acme", "UTC", 1, HOST), Client("beta", "UTC", 1, UNKNOWN), Client("gamma", "UTC", 1, None)]
    await check_hosts(report, [*clients, Client("delta", "UTC", 1, CLOSED)], connector)
    return {line.name: (line.verdict.level, line.verdict.says) for line in report.lines}


async def test_a_host_that_leads_to_rotord_is_ok_and_every_other_is_told_apart(pem, database_url):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    async with running_site(database_url) as site, proxy(pem, site.port) as port:
        found = await asked(pem, {HOST: port, CLOSED: closed})
        untrusted = await asked(pem, {HOST: port, CLOSED: closed}, trusted=False)

    assert found[HOST] == (Level.OK, f"https://{HOST}/u/ leads to a rotord")
    assert found[UNKNOWN] == (Level.WARN, f"the DNS knows no {UNKNOWN}, so unsubscribe links on it lead nowhere")
    assert found[CLOSED][0] is Level.WARN
    assert "cannot be reached" in found[CLOSED][1]
    assert len(found) == 3
    assert "certificate is not valid" in untrusted[HOST][1]


async def test_something_else_that_answers_there_is_no_rotord(pem):
    async def other(_request, _token):
        return aiohttp.web.Response(status=404, headers={"X-Robots-Tag": "all"})

    async with running_listener({"/u/": {"GET": other}}, Bounds()) as inner, proxy(pem, inner) as port:
        found = await asked(pem, {HOST: port})

    assert found[HOST][0] is Level.WARN
    assert "no rotord" in found[HOST][1]
