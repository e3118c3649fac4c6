"""A fleet file that is wrong changes nothing and says everything: each fault is one line with file and line."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from rotord.core.model import Pacing, Status
from rotord.fleet import DeclaredAddress, DeclaredClient, DeclaredDomain, FleetError, read

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "address,display_name,per_hour,per_day,status\n"
CLIENT = '[[client]]\nslug = "acme"\n'
DOMAIN = '[[client.domain]]\nname = "acme.example"\nproviders = ["relay"]\n'


@pytest.fixture
def fleet(tmp_path):
    def write(toml: str, addresses: str | bytes | None = None) -> Path:
        path = tmp_path / "fleet.toml"
        if addresses is not None:
            toml = f'addresses = "addresses.csv"\n{toml}'
            raw = addresses if isinstance(addresses, bytes) else addresses.encode()
            (tmp_path / "addresses.csv").write_bytes(raw)
        path.write_text(toml, encoding="utf-8", newline="")
        return path

    return write


def faults(path: Path, providers: set[str] | None = None) -> list[str]:
    with pytest.raises(FleetError) as caught:
        read(path, providers)
    return [line.removeprefix(f"{path.parent}/") for line in caught.value.lines]


def test_everything_a_file_may_say_is_read(fleet):
    path = fleet(
        CLIENT
        + 'name = "Acme GmbH"\ntimezone = "Europe/Berlin"\nper_hour = 2000\nper_day = 20000\nweight = 2\n'
        + 'transactional_reserve = 0.25\nsending_window = "mon-fri 08:00-19:00"\npacing = "even"\nstatus = "paused"\n'
        + 'unsubscribe_host = "Mail.acme.example"\nforward_replies_to = "Inbox@acme.example"\n'
        + '[[client.domain]]\nname = "Acme-Mail.example"\nstream = "cold"\nproviders = ["relay", "sandbox"]\n'
        + 'per_hour = 0\nper_day = 5000\nwarmup = "gentle"\nwarmup_started_on = 2026-11-01\nstatus = "disabled"\n'
        + 'forward_replies_to = "cold@acme.example"\n'
        + '[[client]]\nslug = "b2"\n',
        "\ufeffaddress,display_name,per_hour,per_day,status,used_day,forward_replies_to\r\n"
        '"Anna@Acme-Mail.example","Müller, Anna ""A""",20,100,paused,7,anna@acme.example\r\n'
        "\r\n"
        "bob@acme-mail.example,,,,,,\r\n",
    )

    declared = read(path, {"relay", "sandbox"})

    assert declared.clients == (
        DeclaredClient(
            *("acme", "Acme GmbH", "Europe/Berlin", 2000, 20000, 2.0, 0.25, "mon-fri 08:00-19:00", Pacing.EVEN, Status.PAUSED),
            unsubscribe_host="mail.acme.example",
            forward_replies_to="Inbox@acme.example",
        ),
        DeclaredClient("b2"),
    )
    assert declared.domains == (
        DeclaredDomain(
            "acme-mail.example",
            "acme",
            "cold",
            ("relay", "sandbox"),
            0,
            5000,
            "gentle",
            date(2026, 11, 1),
            Status.DISABLED,
            "cold@acme.example",
        ),
    )
    assert declared.addresses == (
        DeclaredAddress("anna@acme-mail.example", "acme-mail.example", 'Müller, Anna "A"', 20, 100, Status.PAUSED, 7, "anna@acme.example"),
        DeclaredAddress("bob@acme-mail.example", "acme-mail.example"),
    )


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (CLIENT + "per_huor = 5", "3: client acme: per_huor: unknown key; did you mean per_hour?"),
        (CLIENT + "per_hour = -5", "3: client acme: per_hour: must be at least 0, got -5"),
        (CLIENT + "per_day = 2147483648", "3: client acme: per_day: must be at most 2147483647, got 2147483648"),
        (CLIENT + "per_day = '5'", "3: client acme: per_day: wanted a whole number, got the text '5'"),
        (CLIENT + "weight = 0", "3: client acme: weight: must be at least 0.001, got 0"),
        (CLIENT + "transactional_reserve = 1", "3: client acme: transactional_reserve: must be at most 0.9, got 1"),
        (CLIENT + "pacing = 'slow'", "3: client acme: pacing: wanted 'even' or 'none', got the text 'slow'"),
        (
            CLIENT + "timezone = 'Europe/Berlnn'",
            "3: client acme: timezone: is no time zone; give one like Europe/Berlin or UTC",
        ),
        (CLIENT + "timezone = '../etc'", "3: client acme: timezone: is no time zone; give one like Europe/Berlin or UTC"),
        (CLIENT + "name = 'a\\tb'".replace("'", '"'), "3: client acme: name: wanted one line without control characters and without =?"),
        (CLIENT + "status = 'gone'", "3: client acme: status: wanted 'active', 'paused' or 'disabled', got the text 'gone'"),
        (
            CLIENT + "unsubscribe_host = 'https://mail.acme.example'",
            "3: client acme: unsubscribe_host: is no host name; give one like mail.acme.example, without https://",
        ),
        (
            CLIENT + "forward_replies_to = 'Inbox <inbox@acme.example>'",
            "3: client acme: forward_replies_to: is no e-mail address; give one like inbox@acme.example",
        ),
        ("[[client]]\nslug = 'A B'", "2: client A B: slug: wanted 1 to 63 of a-z, 0-9 and -"),
        ("[[client]]\nname = 'x'", "1: slug: is missing"),
        (CLIENT + CLIENT, "4: slug: acme is already on line 2"),
        ("client = 5", "1: client: wanted an array, got 5"),
        ("[[clients]]\nslug = 'a'", "1: clients: unknown key; did you mean client?"),
        ("addresses = 5", "1: addresses: wanted text, got 5"),
        (CLIENT + DOMAIN + "warmpu = 'none'", "6: domain acme.example: warmpu: unknown key; did you mean warmup?"),
        (
            CLIENT + DOMAIN + "warmup = 'fast'",
            "6: domain acme.example: warmup: wanted 'none', 'standard' or 'gentle', got the text 'fast'",
        ),
        (
            CLIENT + DOMAIN + "warmup_started_on = 'today'",
            "6: domain acme.example: warmup_started_on: wanted a date like 2026-11-01, got the text 'today'",
        ),
        (CLIENT + DOMAIN + "stream = 'a/b'", "6: domain acme.example: stream: wanted 1 to 63 of a-z, 0-9 and -"),
        (
            CLIENT + "[[client.domain]]\nname = 'acme'\nproviders = []",
            "4: domain acme: name: is no domain name; give one like acme-mail.example",
        ),
        (CLIENT + "[[client.domain]]\nname = 'a.example'", "3: domain a.example: providers: is missing"),
        (
            CLIENT + DOMAIN + "[[client]]\nslug = 'b'\n" + DOMAIN.replace("acme.e", "ACME.e"),
            "9: name: ACME.example is already on line 4",
        ),
        (
            CLIENT + DOMAIN.replace("relay", "relai"),
            "5: domain acme.example: providers: relai is not configured; did you mean relay?",
        ),
        (
            CLIENT + DOMAIN.replace("relay", "mailgun"),
            "5: domain acme.example: providers: mailgun is not configured; known are relay, sandbox",
        ),
        (CLIENT + DOMAIN.replace('"relay"', '"relay", "relay"'), "5: domain acme.example: providers: relay is there twice"),
        (CLIENT + DOMAIN.replace('"relay"', '"relay", 5'), "5: domain acme.example: providers: wanted text, got 5"),
        ("[[client\n", "1: is not TOML: Expected ']]' at the end of an array declaration (column 9)"),
    ],
)
def test_each_fault_of_the_fleet_file_is_one_line(fleet, toml, expected):
    assert faults(fleet(toml), {"relay", "sandbox"}) == [f"fleet.toml:{expected}"]


def test_a_bad_sending_window_is_told_in_its_own_words(fleet):
    (fault,) = faults(fleet(CLIENT + "sending_window = 'mon-fry 8-19'"))

    assert fault.startswith("fleet.toml:3: client acme: sending_window: sending window 'mon-fry 8-19': ")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("x@other.example,,,,", ["2: address: domain other.example is not in the fleet file"]),
        (
            "x@acmee.example,,,,",
            ["2: address: domain acmee.example is not in the fleet file; did you mean acme.example?"],
        ),
        ("a@acme.example,,,,\nA@Acme.example,,,,", ["3: address: a@acme.example is already on line 2"]),
        ("no-address,,,,", ["2: address: is no e-mail address: the text 'no-address'"]),
        (",,,,", ["2: address: is no e-mail address: the text ''"]),
        ("müller@acme.example,,,,", ["2: address: is no e-mail address: the text 'm\\xfcller@acme.example'"]),
        (
            "a@acme.example,,-1,x,on",
            [
                "2: status: wanted active, paused, disabled or nothing, got the text 'on'",
                "2: per_hour: must be at least 0, got -1",
                "2: per_day: wanted a whole number or nothing, got the text 'x'",
            ],
        ),
        ("a@acme.example,,2147483648,,", ["2: per_hour: must be at most 2147483647, got 2147483648"]),
        ("a@acme.example,," + "9" * 5000 + ",,", ["2: per_hour: must be at most 2147483647, got " + "9" * 20]),
        (
            "a@acme.example,,1.5,²,",
            [
                "2: per_hour: wanted a whole number or nothing, got the text '1.5'",
                "2: per_day: wanted a whole number or nothing, got the text '\\xb2'",
            ],
        ),
        (
            "a@acme.example,x,1",
            ["2: wanted 5 columns (address,display_name,per_hour,per_day,status), got 3"],
        ),
        (
            'a@acme.example,"two\nlines",,,\nb,,,,',
            [
                "2: display_name: wanted one line without control characters and without =?, of at most 320 characters",
                "4: address: is no e-mail address: the text 'b'",
            ],
        ),
        ('a@acme.example,,,,\nb@acme.example,"open,,,\n', ["3: is not CSV: unexpected end of data"]),
        ('a@acme.example,"x"y,,,', ["2: is not CSV: ',' expected after '\"'"]),
        ("a@acme.example," + "x" * 140_000 + ",,,", ["2: is not CSV: field larger than field limit (131072)"]),
    ],
)
def test_each_fault_of_the_address_file_is_one_line(fleet, rows, expected):
    path = fleet(CLIENT + DOMAIN, HEAD + rows)

    assert faults(path) == [f"addresses.csv:{line}" for line in expected]


def test_a_last_column_may_stand_alone(fleet):
    head = HEAD.strip() + ",forward_replies_to\n"
    path = fleet(CLIENT + DOMAIN, head + "a@acme.example,,,,,anna@acme.example\nb@acme.example,,,,,\n")

    assert [address.forward_replies_to for address in read(path).addresses] == ["anna@acme.example", None]
    assert faults(fleet(CLIENT + DOMAIN, head + "a@acme.example,,,,,anna\n")) == [
        "addresses.csv:2: forward_replies_to: is no e-mail address: the text 'anna'"
    ]


@pytest.mark.parametrize("head", ["", "email,name\n", "address,display_name,per_hour,per_day\n"])
def test_an_address_file_needs_its_head_line(fleet, head):
    [fault] = faults(fleet(CLIENT, head))
    wanted = "address,display_name,per_hour,per_day,status (and ,used_day and ,forward_replies_to where wanted)"
    assert fault == f"addresses.csv:1: the first line must be {wanted}"


def test_what_is_no_text_is_one_line(fleet, tmp_path):
    assert faults(fleet(CLIENT, b"address\nx\xfc")) == ["addresses.csv:2: is not UTF-8 (byte 0xfc): save it as UTF-8"]
    assert faults(fleet(CLIENT, b"address\n\0")) == ["addresses.csv:2: holds a NUL byte: save the file as UTF-8 text"]
    assert faults(fleet(CLIENT, b"x" * 67_108_865)) == ["addresses.csv: is longer than 67108864 bytes, which is the most that is read"]
    assert faults(tmp_path / "none.toml") == ["none.toml: cannot be read: No such file or directory"]
    (tmp_path / "addresses.csv").unlink()
    assert faults(fleet('addresses = "addresses.csv"\n' + CLIENT)) == ["addresses.csv: cannot be read: No such file or directory"]


def test_all_faults_of_both_files_are_listed_at_once(fleet):
    path = fleet(
        CLIENT + "per_hour = -1\n" + DOMAIN + CLIENT + "[[client.domain]]\nname = 'b.example'\nproviders = ['x']",
        HEAD + "a@b.example,,,,\na@other.example,,,,\nb,,,,\n",
    )

    assert faults(path, {"relay"}) == [
        "fleet.toml:4: client acme: per_hour: must be at least 0, got -1",
        "fleet.toml:9: slug: acme is already on line 3",
        "fleet.toml:12: domain b.example: providers: x is not configured; known are relay",
        "addresses.csv:3: address: domain other.example is not in the fleet file",
        "addresses.csv:4: address: is no e-mail address: the text 'b'",
    ]


def test_more_addresses_than_the_most_are_refused_and_a_file_of_faults_is_read_quickly(fleet):
    many = HEAD + "".join(f"a{number}@acme.example,,,,\n" for number in range(200_001))
    wrong = HEAD + "".join(f"a@unknown{number}.example,,,,\n" for number in range(20_000))

    assert faults(fleet(CLIENT + DOMAIN, many)) == [
        "addresses.csv:200002: there are more than 200000 addresses, which is the most that is read"
    ]
    assert len(faults(fleet(CLIENT + DOMAIN, wrong))) == 20_000
