"""Settings: every wrong thing is one clear line with its place, no line holds a secret, the nearest source wins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from rotord.settings import Sandbox, Settings, SettingsError, Smtp, load
from rotord.settings.catalogue import keys
from rotord.settings.describe import example, reference

PROJECT = Path(__file__).parents[1]
RELAY = '[providers.relay]\nkind = "smtp"\nhost = "relay.example"\n'


@pytest.fixture
def written(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "rotord.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def faults(path: Path | None, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(path, environ or {})
    return caught.value.lines


def test_without_a_file_everything_has_its_default():
    settings = load(None, {})

    assert settings == Settings()
    assert settings.database.is_embedded
    assert (settings.lease.renew_seconds, settings.lease.query_timeout_seconds, settings.lease.margin_seconds) == (
        2.0,
        1.5,
        2.0,
    )
    assert settings.engine.thread_wait_seconds == 86_400


def test_the_example_works_and_sends_nothing_out():
    settings = load(PROJECT / "config" / "rotord.toml", {})

    assert settings.model_copy(update={"providers": {}}) == Settings()
    assert set(settings.providers) == {"relay", "sandbox"}
    assert all(isinstance(provider, Sandbox) for provider in settings.providers.values())
    assert settings.sandbox_directory("relay") == Path(".rotord/sandbox/relay")


def test_the_example_and_the_reference_are_what_the_model_says():
    """After a change of the model: python -m rotord.settings.describe."""
    assert (PROJECT / "config" / "rotord.toml").read_text(encoding="utf-8") == example()
    assert (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8") == reference()


def test_every_key_stands_in_the_example_and_what_is_commented_out_is_toml():
    settings = re.findall(r"^(?:# )?(\[[a-z0-9_.]+\]|[a-z0-9_]+ = .*)$", example(), re.MULTILINE)
    everything = tomllib.loads("\n".join(settings))

    for key in keys():
        tables = [everything]
        for part in key.where[:-1]:
            tables = [inner for table in tables for inner in (table.values() if part == "NAME" else [table[part]])]
        assert any(key.where[-1] in table for table in tables), key.where
        assert key.meaning
        assert "\n" not in key.meaning


def test_the_environment_wins_over_credentials_and_they_over_the_file(written, tmp_path):
    path = written(RELAY + 'username = "rotor"\npassword = "from-file"\n[engine]\nconcurrency = 10\n')
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "rotord_providers__relay__password").write_text("from-credential\n")
    (credentials / "rotord_engine__concurrency").write_text("20\n")
    (credentials / "somebody_elses").write_text("ignored")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "ROTORD_ENGINE__CONCURRENCY": "30", "HOME": "/root"}

    from_file, from_credentials = load(path, {}), load(path, environ)

    assert from_file.providers["relay"].password.get_secret_value() == "from-file"
    assert from_credentials.providers["relay"].password.get_secret_value() == "from-credential"
    assert (from_file.engine.concurrency, from_credentials.engine.concurrency) == (10, 30)
    assert load(path, {"CREDENTIALS_DIRECTORY": str(credentials)}).engine.concurrency == 20


def test_a_credential_keeps_its_inner_lines(tmp_path, written):
    pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    (tmp_path / "rotord_dkim__acme__private_key").write_text(pem)
    path = written('[dkim.acme]\ndomain = "Acme.example"\nselector = "s1"\n')

    key = load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).dkim["acme"]

    assert (key.private_key.get_secret_value(), key.domain) == (pem.removesuffix("\n"), "acme.example")


def test_variables_name_any_key_at_any_depth():
    settings = load(
        None,
        {
            "ROTORD_DATABASE__URL": "postgresql://u:pw@h1,h2/db",
            "ROTORD_PROVIDERS__MY__BOX__KIND": "sandbox",
            "ROTORD_PROVIDERS__MY__BOX__LATENCY_MS": "[1, 2.5]",
            "ROTORD_PROVIDERS__MY__BOX__OUTCOMES": "{deferred = 0.25}",
            "ROTORD_ALERTS__TELEGRAM__CHAT_ID": "42",
            "ROTORD_CONFIG": "",
        },
    )

    assert settings.providers["my__box"].latency_ms == (1.0, 2.5)
    assert settings.providers["my__box"].outcomes == {"deferred": 0.25}
    assert settings.alerts.telegram.chat_id == "42"
    assert settings.secrets() == ["postgresql://u:pw@h1,h2/db", "pw"]


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("postgresql://u:p%40ss@h/db", ["p%40ss", "p@ss"]),
        ("postgres://h/db?user=u&password=hunter2&sslmode=require", ["hunter2"]),
        ("postgresql://u@h/db", []),
    ],
)
def test_a_password_inside_the_database_url_is_a_secret_too(url, inside):
    assert load(None, {"ROTORD_DATABASE__URL": url}).secrets() == [url, *inside]


def test_the_file_is_found_by_option_then_by_variable(written, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("[engine]\nconcurrency = 7\n")
    path = written("[engine]\nconcurrency = 8\n")

    assert load(None, {"ROTORD_CONFIG": str(other)}).engine.concurrency == 7
    assert load(path, {"ROTORD_CONFIG": str(other)}).engine.concurrency == 8


def test_nothing_can_be_changed_afterwards(written):
    settings = load(written(RELAY), {})

    with pytest.raises(ValidationError):
        settings.engine.concurrency = 1
    with pytest.raises(TypeError):
        settings.providers["x"] = settings.providers["relay"]


def test_limits_are_those_of_the_core(written):
    relay = load(written(RELAY + "per_hour = 0\nper_second = 2\nconnections = 3\n"), {}).providers["relay"]
    limits = relay.limits("relay")

    assert isinstance(relay, Smtp)
    assert (limits.per_second, limits.per_hour, limits.per_day, limits.max_in_flight) == (2.0, 0, None, 3)
    assert Sandbox(kind="sandbox").limits("box").max_in_flight == 100


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("[engine]\nconcurency = 5", 2, "engine.concurency: unknown key; did you mean concurrency?"),
        ("[enigne]\n", 1, "enigne: unknown key; did you mean engine?"),
        ("[engine]\nconcurrency = 'ten'", 2, "engine.concurrency: wanted a whole number, got the text 'ten'"),
        ("[engine]\n\nconcurrency = 1.5", 3, "engine.concurrency: wanted a whole number, got 1.5"),
        ("[engine]\nconcurrency = true", 2, "engine.concurrency: wanted a whole number, got true"),
        ("engine.drain_seconds = 90", 1, "engine.drain_seconds: must be less than 90, got 90"),
        ("engine.drain_seconds = nan", 1, "engine.drain_seconds: wanted a finite number, got nan"),
        ("[lease]\nttl_seconds = 1", 2, "lease.ttl_seconds: must be at least 5, got 1"),
        ("engine = 5", 1, "engine: wanted a table"),
        ("[engine]\nretry_first_seconds = 9000", 1, "engine: retry_first_seconds is more than retry_max_seconds"),
        (
            "[engine]\nredirect_all_to = 'qa'",
            2,
            "engine.redirect_all_to: is no e-mail address; give one like qa@example.com, or nothing",
        ),
        ("[http]\nlisten = '8025'", 2, "http.listen: wanted host:port, like 127.0.0.1:8025 or [::1]:8025"),
        (
            "[http]\npublic_url = 'rotor.example'",
            2,
            "http.public_url: wanted an address that begins with https:// or http://",
        ),
        ("[state]\ndir = 5", 2, "state.dir: wanted text, got 5"),
        ("[log]\nlevel = 'loud'", 2, "log.level: wanted 'debug', 'info', 'warning' or 'error', got the text 'loud'"),
        ("[providers.a]\nkind = 'smtp'", 1, 'providers.a.host: is missing; give one like "127.0.0.1"'),
        (RELAY + "prot = 25", 4, "providers.relay.prot: unknown key; did you mean port?"),
        (RELAY + "per_day = -1", 4, "providers.relay.per_day: must be at least 0, got -1"),
        (RELAY + "latency_ms = 1", 4, "providers.relay.latency_ms: unknown key"),
        (RELAY + "tls = 'ssl'", 4, "providers.relay.tls: wanted 'starttls', 'implicit' or 'none', got the text 'ssl'"),
        (RELAY + "password = 'x'", 1, "providers.relay: password is given without username"),
        (
            "[providers.a]\nkind = 'mailgun'\napi_key = 'two words'",
            3,
            "providers.a.api_key: wanted a key of printable letters, without blanks",
        ),
        ("[providers.a]\nkind = 'smtp2go'", 1, 'providers.a.api_key: is missing; give one like "..."'),
        (
            "[providers.a]\nkind = 'smpt'",
            2,
            "providers.a.kind: is no kind of provider; did you mean smtp? (there are smtp, sandbox, mailgun, sendgrid or smtp2go)",
        ),
        ("[providers.a]\nweight = 2", 1, "providers.a.kind: is missing: give smtp, sandbox, mailgun, sendgrid or smtp2go"),
        ("[providers.A-1]\nkind = 'smtp'", 1, "providers.A-1: wanted a name of a-z, 0-9 and _"),
        ("[providers]\na = 1", 2, "providers.a: wanted a table"),
        (
            "[providers.a]\nkind = 'sandbox'\nlatency_ms = [2, 1]",
            1,
            "providers.a: latency_ms wants the lesser number first",
        ),
        (
            "[providers.a]\nkind = 'sandbox'\noutcomes = { deferred = 0.9, rejected = 0.2 }",
            1,
            "providers.a: the shares in outcomes are more than 1 together",
        ),
        ("[http]\npublic_url = 'http://[x'", 2, "http.public_url: wanted an address that begins with https:// or http://"),
        (
            "[providers.a]\nkind = 'sandbox'\noutcomes = { defered = 1 }",
            3,
            "providers.a.outcomes.defered: wanted 'deferred', 'rejected', 'not_sent' or 'uncertain', got the text 'defered'",
        ),
        (
            "[providers.a]\nkind = 'sandbox'\noutcomes = { deferred = 2 }",
            3,
            "providers.a.outcomes.deferred: must be at most 1, got 2",
        ),
        ("[dkim.a]\ndomain = 'a.example'\nselector = 's'", 1, "dkim.a: wants exactly one of key_file and private_key"),
        ("[backup]\nkeep_daily = 0", 2, "backup.keep_daily: must be at least 1, got 0"),
        (
            "x = '''\n[engine]\n'''\n[engine] # [lease]\nconcurrency = [\n 1, # ]\n]",
            5,
            "engine.concurrency: wanted a whole number, got an array",
        ),
    ],
)
def test_each_wrong_thing_is_one_line_with_its_place(written, text, line, expected):
    path = written(text)

    assert [fault for fault in faults(path) if ": x: " not in fault] == [f"{path}:{line}: {expected}"]


def test_what_is_no_toml_is_one_line(written, tmp_path):
    assert faults(written("[engine\n")) == (
        f"{tmp_path}/rotord.toml:1: is not TOML: Expected ']' at the end of a table declaration (column 8)",
    )
    assert faults(written(b"# \xff\n")) == (f"{tmp_path}/rotord.toml:1: is not UTF-8 (byte 0xff): save it as UTF-8",)
    assert faults(written(b"\n# \0")) == (f"{tmp_path}/rotord.toml:2: holds a NUL byte: save the file as UTF-8 text",)
    assert faults(tmp_path / "none.toml") == (f"{tmp_path}/none.toml: cannot be read: No such file or directory",)
    assert faults(written("x = " + "[" * 100_000)) == (f"{tmp_path}/rotord.toml: is nested too deeply",)
    assert faults(written("#" * 1_048_577)) == (f"{tmp_path}/rotord.toml: is longer than 1048576 bytes, which is the most that is read",)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ROTORD_ENGINE__CONCURENCY", "1", "names no setting; did you mean ROTORD_ENGINE__CONCURRENCY?"),
        ("ROTORD_ENGINE_CONCURRENCY", "1", "names no setting; did you mean ROTORD_ENGINE__CONCURRENCY?"),
        (
            "ROTORD_PROVIDERS__RELAY__PASWORD",
            "hunter2",
            "names no setting; did you mean ROTORD_PROVIDERS__RELAY__PASSWORD?",
        ),
        ("ROTORD_ENGINE__CONCURRENCY", "ten", "engine.concurrency: wanted a whole number, got the text 'ten'"),
        ("ROTORD_ENGINE__CONCURRENCY", "1\nx = 2", "engine.concurrency: wanted a whole number, got the text '1\\nx = 2'"),
        ("ROTORD_DATABASE__URL", "mysql://u:hunter2@h/d", "database.url: wanted embedded, or an address that begins with"),
        (
            "ROTORD_PROVIDERS__RELAI__PASSWORD",
            "hunter2",
            "providers.relai.kind: is missing: no such provider in the file; did you mean relay?",
        ),
        ("ROTORD_PROVIDERS__NEW__KIND", "smtp", 'providers.new.host: is missing; give one like "127.0.0.1"'),
        ("ROTORD_PROVIDERS__NEW__KIND", "sendgrid", 'providers.new.api_key: is missing; give one like "..."'),
    ],
)
def test_a_wrong_variable_is_named(written, variable, value, expected):
    (line,) = faults(written(RELAY), {variable: value})

    assert line.startswith(f"{variable}: {expected}")
    assert "hunter2" not in line


def test_a_wrong_credential_is_named(tmp_path):
    (tmp_path / "rotord_log__level").write_text("loud\n")
    (tmp_path / "rotord_lock__level").write_text("loud\n")

    assert faults(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (
        "credential rotord_lock__level: names no setting; did you mean ROTORD_LOG__LEVEL?",
        "credential rotord_log__level: log.level: wanted 'debug', 'info', 'warning' or 'error', got the text 'loud'",
    )
    assert "No such file" in faults(None, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})[0]


def test_no_fault_and_no_repr_repeats_a_secret(written):
    secret = "canary-4711"
    text = f"""
    pasword = "{secret}"
    [database]
    url = ["{secret}"]
    [http]
    admin_token = {{ a = "{secret}" }}
    [providers.relay]
    kind = "smtp"
    password = ["{secret}"]
    [providers]
    other = "{secret}"
    [dkim]
    acme = "{secret}"
    [alerts]
    slack = "{secret}"
    """
    path = written(text)

    assert len(faults(path)) == 8
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert secret not in str(caught.value)
    assert secret not in repr(caught.value.__context__)

    settings = load(written(RELAY + f'username = "u"\npassword = "{secret}"\n'), {})
    assert secret not in f"{settings!r} {settings} {settings.model_dump()}"
    assert settings.secrets() == [secret]


def test_a_key_has_its_value_from_one_source_whole(written):
    path = written("[providers.box]\nkind = 'sandbox'\noutcomes = { deferred = 0.5 }\n")

    assert load(path, {"ROTORD_PROVIDERS__BOX__OUTCOMES": "{rejected = 0.25}"}).providers["box"].outcomes == {"rejected": 0.25}


def test_a_variable_does_not_hide_that_the_file_has_no_table_there(written):
    path = written("engine = 5")

    assert faults(path, {"ROTORD_ENGINE__CONCURRENCY": "5"}) == (f"{path}:1: engine: wanted a table",)


def test_nothing_is_read_from_the_process_itself(monkeypatch):
    monkeypatch.setenv("ROTORD_ENGINE__CONCURRENCY", "5")
    monkeypatch.setenv("ENGINE", '{"concurrency": 5}')

    assert Settings() == load(None, {})
    assert Settings().engine.concurrency == 200


def test_a_table_with_a_bad_name_or_no_kind_is_told_once(written):
    path = written("[providers.A-1]\nkind = 'smtp'\nprot = 1\n[providers.b]\nkind = 'imap'\nprot = 1\n[providers.c]\nkind = 5\nprot = 1\n")

    assert faults(path) == (
        f"{path}:1: providers.A-1: wanted a name of a-z, 0-9 and _",
        f"{path}:5: providers.b.kind: is no kind of provider (there are smtp, sandbox, mailgun, sendgrid or smtp2go)",
        f"{path}:8: providers.c.kind: is no kind of provider (there are smtp, sandbox, mailgun, sendgrid or smtp2go)",
    )
