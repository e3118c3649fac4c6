"""What reaches the socket that systemd would listen on, and what systemd says of our unit."""

import os
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotord.embedded.server import STOP_S
from rotord.systemd import Systemd

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd" / "rotord.service"


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@rotord-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(5)
        yield listening, name


def test_every_word_arrives_as_systemd_spells_it(listener: tuple[socket.socket, str]) -> None:
    listening, name = listener
    systemd = Systemd({"NOTIFY_SOCKET": name})

    systemd.ready("leader of epoch 7")
    systemd.status("12 in flight")
    systemd.watchdog()
    systemd.stopping("draining 12")

    assert [listening.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=leader of epoch 7",
        b"STATUS=12 in flight",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=draining 12",
    ]


def test_a_status_cannot_smuggle_a_word(listener: tuple[socket.socket, str]) -> None:
    listening, name = listener

    Systemd({"NOTIFY_SOCKET": name}).status("relay said\nSTOPPING=1")

    assert listening.recv(4096) == b"STATUS=relay said STOPPING=1"


def test_without_systemd_nothing_happens() -> None:
    systemd = Systemd({})

    systemd.ready("")
    systemd.watchdog()

    assert systemd.watchdog_every_s is None


def test_a_socket_that_is_gone_does_not_end_the_daemon(tmp_path: Path) -> None:
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).watchdog()


def test_a_full_socket_does_not_block_the_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify")})

        # net.unix.max_dgram_qlen is a few hundred at most.
        for _ in range(5000):
            systemd.watchdog()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "15000000"}, 7.5),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 7.5),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(environ: dict[str, str], expected: float | None) -> None:
    assert Systemd({"NOTIFY_SOCKET": "/run/systemd/notify", **environ}).watchdog_every_s == expected


def _unit() -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def test_systemd_waits_longer_for_the_end_than_a_drain_and_the_database_take() -> None:
    drain_s = tomllib.loads((ROOT / "config" / "rotord.toml").read_text())["engine"]["drain_seconds"]
    (timeout,) = _unit()["TimeoutStopSec"]

    assert int(timeout.removesuffix("s")) > drain_s + STOP_S


@pytest.mark.system
def test_systemd_accepts_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    (program,) = _unit()["ExecStart"]
    unit = tmp_path / "rotord.service"
    unit.write_text(UNIT.read_text().replace(program.split()[0], "/bin/true"))

    subprocess.run(["systemd-analyze", "verify", unit], check=True)
    # In tenths: 1.2 at most.
    subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=12", "--no-pager", unit], check=True)
