"""The console itself: exit codes, one line an error, nothing imported that is not needed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rotord.cli import COMMANDS, main

ROTORD = [sys.executable, "-m", "rotord"]


def run(*words, **environ):
    return subprocess.run([*ROTORD, *words], env={**os.environ, **environ}, capture_output=True, text=True, timeout=50, check=False)


def test_version_is_told_plainly_and_as_json(capsys):
    assert main(["version"]) == 0
    plain = capsys.readouterr().out
    assert main(["version", "--json"]) == 0

    assert plain == f"rotord {json.loads(capsys.readouterr().out)['version']}\n"


def test_version_needs_no_database_driver_and_no_settings():
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys; from rotord.cli import main; main(['version']); print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert not {"asyncpg", "pydantic", "structlog", "orjson", "aiohttp"} & set(loaded)


def test_help_lists_every_command_that_is_installed(capsys):
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    there = {name for name, module in COMMANDS.items() if (Path(sys.modules[main.__module__].__file__).parent / f"{module}.py").exists()}
    assert {"migrate", "fleet", "status", "pause", "resume", "suppress", "uncertain", "retry", "cancel", "app"} <= there
    assert all(f"    {name} " in shown for name in there)


@pytest.mark.parametrize("words", [[], ["versoin"], ["pause", "planet", "mars"], ["status", "--wach"], ["retry", "--since", "soon"]])
def test_what_cannot_be_read_is_a_usage_error(capsys, words):
    assert main(words) == 2
    assert "usage: rotord" in capsys.readouterr().err


def test_a_bad_configuration_is_exit_2_and_one_line_a_fault(tmp_path, capsys):
    config = tmp_path / "rotord.toml"
    config.write_text("[database]\nurll = 'embedded'\n[engine]\nconcurrency = 0\n")

    assert main(["--config", str(config), "status"]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"rotord: {config}:") for line in lines)


def test_a_database_that_does_not_answer_is_one_line_without_its_password(monkeypatch, capsys):
    monkeypatch.setenv("ROTORD_DATABASE__URL", "postgresql://rotord:hunter2@127.0.0.1:1/rotord")

    assert main(["status"]) == 1

    error = capsys.readouterr().err
    assert error.startswith("rotord: cannot connect to the database")
    assert error.count("\n") == 1
    assert "hunter2" not in error


def test_the_embedded_database_is_started_for_a_command_and_stopped_after_it(tmp_path):
    here = {"ROTORD_STATE__DIR": str(tmp_path / "state"), "ROTORD_CONFIG": ""}

    missing = run("status", **here)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.splitlines() == [
        "rotord: the database has no rotord schema: run rotord migrate",
        f"rotord: the database is the embedded one in {tmp_path}/state: is that where your daemon runs?",
    ]
    migrated = run("migrate", "--json", **here)
    assert migrated.returncode == 0, migrated.stderr
    status = run("status", "--json", **here)

    assert json.loads(status.stdout)["queue"] == []
    assert status.stderr == ""
    assert not list(tmp_path.glob("state/postgres/data/postmaster.pid"))


def test_watch_draws_until_it_is_interrupted(database_url):
    watching = subprocess.Popen(
        [*ROTORD, "status", "--watch"],
        env={**os.environ, "ROTORD_DATABASE__URL": database_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for drawn in (1, 2):
            assert any(line.startswith("leader") for line in iter(watching.stdout.readline, "")), drawn
        watching.send_signal(signal.SIGINT)
        _, error = watching.communicate(timeout=20)
    finally:
        watching.kill()

    assert (watching.returncode, error) == (130, "")


def test_a_reader_that_has_enough_is_no_error(database_url):
    env = {**os.environ, "ROTORD_DATABASE__URL": database_url}
    command = f"{sys.executable} -m rotord status --watch | head -n 1"

    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], env=env, capture_output=True, text=True, timeout=50, check=False)

    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
