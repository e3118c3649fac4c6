"""The log tells operators everything and strangers nothing: canaries through fields, exceptions, libraries and a crash."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings

import pytest
import structlog

from rotord import log

CANARY = "canary-4711-secret"


class Broken:
    def __repr__(self) -> str:
        raise ValueError


def refuse(words: str) -> None:
    try:
        int(words)
    except ValueError as error:
        raise RuntimeError([words, "two\nlines-of-canary"]) from error


@pytest.fixture(autouse=True)
def _as_it_was():
    root, hook, raises = logging.getLogger(), sys.excepthook, logging.raiseExceptions
    handlers, level = list(root.handlers), root.level
    yield
    log.forget_secrets()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:], sys.excepthook, logging.raiseExceptions = handlers, hook, raises
    root.setLevel(level)


@pytest.fixture
def lines(capsys):
    def read() -> list[dict]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return read


def test_a_line_is_json_with_time_level_and_fields(lines):
    log.configure("json", "info")
    structlog.get_logger("rotord.test").info("message_deferred", message_id=7, outcome="deferred", wait=1.5, none=None)

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "message_deferred",
        "level": "info",
        "logger": "rotord.test",
        "message_id": 7,
        "outcome": "deferred",
        "wait": 1.5,
        "none": None,
    }


def test_auto_is_json_where_there_is_no_terminal_and_console_is_columns(capsys):
    log.configure("auto", "info")
    structlog.get_logger().info("elected", epoch=3)
    log.configure("console", "info")
    structlog.get_logger().info("elected", epoch=3)

    as_json, as_columns = capsys.readouterr().err.splitlines()
    assert json.loads(as_json)["epoch"] == 3
    assert "elected" in as_columns
    assert "epoch=3" in as_columns


def test_a_level_holds_for_our_loggers_and_for_libraries(lines):
    log.configure("json", "warning")
    structlog.get_logger().info("not_shown")
    logging.getLogger("asyncpg").info("not shown")
    structlog.get_logger().warning("shown")
    logging.getLogger("aiosmtplib").warning("shown %s", "too")

    assert [line["event"] for line in lines()] == ["shown", "shown too"]


def test_a_logger_made_before_configure_follows_it(lines):
    log.configure("json", "error")
    early = structlog.get_logger()
    early.info("not_shown")
    log.configure("json", "info")
    early.info("shown")

    assert [line["event"] for line in lines()] == ["shown"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_secret_leaves_by_a_field_an_exception_or_a_library(capsys, style):
    log.configure(style, "debug")
    log.register_secrets([CANARY, "x", "two\nlines-of-canary"])

    logger = structlog.get_logger().bind(bound=CANARY)
    logger.info("said", password="p4ss", api_key="k3y", nested={"token": "t0ken", "deep": [CANARY, {"x": CANARY}]})
    event = f"in the event {CANARY}"
    logger.info(event, **{CANARY: 1})
    logger.info("objects", error=RuntimeError(CANARY), kinds={CANARY}, text="two\nlines-of-canary", spelled=["two\nlines-of-canary"])
    logger.info("stack", stack_info=True)
    try:
        refuse("login " + CANARY)
    except RuntimeError:
        logger.exception("failed")
        logging.getLogger("asyncpg").exception("failed with %s", CANARY)
    warnings.showwarning(CANARY, UserWarning, "file", 1)

    written = capsys.readouterr().err
    assert "Traceback" in written
    assert log.MASK in written
    for secret in (CANARY, "p4ss", "k3y", "t0ken", "lines-of-canary"):
        assert secret not in written


def test_bodies_are_never_written(lines):
    log.configure("json", "debug")
    structlog.get_logger().debug("sending", body_text="Dear", body_html="<p>", mime=b"raw", attachments=[], raw=b"12345")

    (line,) = lines()
    assert set(line) == {"event", "level", "logger", "timestamp", "raw"}
    assert line["raw"] == "<5 bytes>"


def test_recipients_show_only_at_debug(lines):
    log.configure("json", "debug")
    logger = structlog.get_logger()
    for write in (logger.info, logger.debug):
        write(
            "deferred for max@kunde.example",
            recipient="max@kunde.example",
            to=["<o'neil+x@a.b.example>"],
            reply="550 5.1.1 <max@kunde.example>: unknown",
            address="anna@acme.example",
            message_id="<42.x@acme.example>",
        )
    logging.getLogger("aiosmtplib").info("RCPT TO:<max@kunde.example>")

    above, debug, library = lines()
    assert above["event"] == "deferred for ***@kunde.example"
    assert (above["recipient"], above["to"]) == ("***@kunde.example", ["<***@a.b.example>"])
    assert above["reply"] == "550 5.1.1 <***@kunde.example>: unknown"
    assert (above["address"], above["message_id"]) == ("anna@acme.example", "<42.x@acme.example>")
    assert debug["recipient"] == "max@kunde.example"
    assert library["event"] == "RCPT TO:<***@kunde.example>"


def test_a_recipient_in_a_traceback_is_masked(lines):
    log.configure("json", "info")
    try:
        refuse("no mailbox max@kunde.example")
    except RuntimeError:
        structlog.get_logger().exception("failed")

    (line,) = lines()
    assert "no mailbox ***@kunde.example" in line["exception"]
    assert "max@" not in json.dumps(line)


def test_values_of_any_shape_make_a_line_of_bounded_length(lines):
    log.configure("json", "info")
    deep: list = []
    for _ in range(50):
        deep = [deep]
    structlog.get_logger().info("big", text="a" * 50_000, deep=deep, number=2**70, far=float("inf"), half="\ud800", broken=Broken())

    (line,) = lines()
    assert len(line["text"]) < log.MAX_TEXT + 50
    assert (line["number"], line["far"], line["half"]) == (2**70, "inf", "\ud800")
    assert line["broken"] == "<Broken without words>"
    assert line["deep"] == [[[[["..."]]]]]


def test_access_lines_with_tokens_in_their_paths_are_not_written(lines):
    log.configure("json", "info")
    logging.getLogger("aiohttp.access").info("GET /u/%s", "t0ken")

    assert lines() == []


def test_a_crash_is_a_masked_line():
    code = f"from rotord import log; log.configure('json'); log.register_secrets(['{CANARY}']); raise RuntimeError('{CANARY}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert json.loads(done.stderr)["event"] == "crashed"
    assert "RuntimeError: ***" in done.stderr
    assert CANARY not in done.stderr


def test_a_library_that_falls_over_a_strangers_mail_fills_no_log(lines):
    log.configure("json", "info")
    try:
        refuse("x")
    except RuntimeError:
        logging.getLogger("flufl.bounce").exception("Exception in detector")

    assert lines() == []
