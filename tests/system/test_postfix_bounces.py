"""Debian's Postfix as a client's relay: mail to a user who does not exist comes back through the recipe of docs/inbound.md."""

import asyncio
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from outbox_rows import add_fleet

from rotord.core.return_path import attempt_of
from rotord.posting import inbound_sources
from tests.providers.support import envelope, send, smtp
from tests.web.site import KEY, running_site
from tests.web.test_inbound import fold, sent, suppressed, told

pytestmark = [pytest.mark.system, pytest.mark.skipif(shutil.which("postfix") is None, reason="needs the package postfix")]
TOKEN = "pipe-token"
DOCS = Path(__file__).parents[2] / "docs" / "inbound.md"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def recipe(folder, rotord_port):
    """The script as the document has it, on the test's port, with the test's token."""
    script = re.search(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    header = folder / "inbound-header"
    header.write_text(f"Authorization: Bearer {TOKEN}\n")
    path = folder / "to-rotord"
    path.write_text(script.replace("127.0.0.1:8025", f"127.0.0.1:{rotord_port}").replace("/etc/rotord/inbound-header", str(header)))
    path.chmod(0o755)
    header.chmod(0o644)
    return path


@pytest.fixture
def folder():
    """Outside of pytest's own, which is root's alone: Postfix is many users."""
    with tempfile.TemporaryDirectory(prefix="postfix-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def configure(folder, port, script):
    etc, queue, data = folder / "etc", folder / "queue", folder / "data"
    for one in (etc, queue, data):
        one.mkdir()
    shutil.chown(data, "postfix")
    (folder / "aliases").write_text(f'bounces "|{script}"\n')
    (etc / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\nmyhostname = relay.test\nmydomain = relay.test\n"
        f"mydestination = shop.example, bounces.x.example\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n"
        f"alias_maps = texthash:{folder}/aliases\nlocal_recipient_maps =\nrecipient_delimiter = +\nmaillog_file = {folder}/log\n"
        f"maillog_file_prefixes = {folder}\ndefault_transport = error:no mail leaves this test\nrelayhost =\nsmtputf8_enable = no\n"
    )
    master = Path("/usr/share/postfix/master.cf.dist").read_text()
    smtp_lines = re.sub(r"^smtp +inet .*$", f"127.0.0.1:{port} inet n - n - - smtpd", master, count=1, flags=re.MULTILINE)
    lines = [re.sub(r"^(\S+\s+(?:unix|inet|fifo)\s+\S+\s+\S+\s+)y(\s)", r"\1n\2", line) for line in smtp_lines.splitlines()]
    (etc / "master.cf").write_text("\n".join(lines) + "\n")
    return etc


async def control(etc, word):
    process = await asyncio.create_subprocess_exec("postfix", "-c", str(etc), word, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def stored(db):
    async with asyncio.timeout(15):
        while not await db.fetchval("SELECT count(*) FROM rotord.provider_posts"):  # noqa: ASYNC110 - another program's time
            await asyncio.sleep(0.1)


async def test_a_message_to_nobody_comes_back_and_suppresses_its_recipient(db, fleet, database_url, folder):
    message, attempt = await sent(db, recipient="nobody-here@shop.example")
    async with running_site(database_url, posting={"inbound": inbound_sources({"relay": ("smtp", TOKEN)}, KEY)}) as site:
        port = free_port()
        etc = configure(folder, port, recipe(folder, site.port))
        status, output = await control(etc, "start")
        assert status == 0, output
        try:
            async with smtp(port, return_path="bounces.{domain}", return_path_key=KEY) as provider:
                reply = await send(provider, envelope(attempt, recipient="nobody-here@shop.example"))
            assert reply.outcome.value == "accepted", reply
            try:
                await stored(db)
            except TimeoutError:
                pytest.fail((folder / "log").read_text()[-4000:])
        finally:
            await control(etc, "stop")
    await fold(db)

    assert await told(db) == [(message, "bounced", "nobody-here@shop.example")], (folder / "log").read_text()[-3000:]
    assert await suppressed(db) == [("acme", "nobody-here@shop.example", "hard_bounce")]
    body = await db.fetchval("SELECT body FROM rotord.provider_posts")
    path = re.search(rb"bounces\+[0-9a-f]+-[a-z2-7]{16}@bounces\.x\.example", body)[0].decode()
    assert attempt_of(KEY, path) == attempt


@pytest.fixture
async def fleet(db):
    await add_fleet(db)
