"""What an app or a person may write: every hostile row is refused by the constraint whose name says why, odd honest ones pass."""

import base64
import json

import asyncpg
import pytest
from outbox_rows import add_fleet, insert


def attachment(**changes):
    whole = {"filename": "a.pdf", "content_type": "application/pdf", "content_base64": "QQ=="} | changes
    return {key: value for key, value in whole.items() if value is not None}


def as_json(**columns):
    return {key: json.dumps(value) for key, value in columns.items()}


CONTROLS = {
    "NUL's neighbour": "\x01",
    "tab": "\t",
    "LF": "\n",
    "CR": "\r",
    "VT": "\x0b",
    "DEL": "\x7f",
    "NEL": "\x85",
    "LS": "\u2028",
    "PS": "\u2029",
}

ADDRESS = "is_one_address"
NOT_ONE_ADDRESS = [
    "", "a", "@", "a@", "@b.c", "a@b@c.d", "a b@c.d", "a@b .c", "a@b.c,d@e.f", "a@b.c;d@e.f", "Bob <a@b.c>", "<a@b.c>", "a@b.c>", "a:b@c.d",
    '"a b"@c.d', "a(x)@b.c", "a\\@b.c", "a@b.c\r\nRCPT TO:<e@v.il>", "a@b.c\n",
    "a\u00a0b@c.d", "a@b\u200b.c", "a\u202eb@c.d", "a@[127.0.0.1]",
    "a" * 310 + "@" + "b" * 10,
    *(f"a{control}@b.c" for control in CONTROLS.values()),
]  # fmt: skip
OWN_HEADERS = [
    "From", "to", "CC", "Bcc", "Sender", "Subject", "Date", "Message-ID", "Reply-To", "Return-Path", "Received", "MIME-Version",
    "Content-Type",
    "content-transfer-encoding", "List-Unsubscribe", "List-Unsubscribe-Post", "DKIM-Signature", "In-Reply-To", "References", "Resent-To",
    "X-Rotord-Id", "X-SMTPAPI", "X-Mailgun-Variables", "", "X A", "X:A", "X-A\r\nBcc", "X-A\n", "Ü", "x" * 77,
]  # fmt: skip
VALUES = "outbox_headers_values_no_control_characters_no_encoded_words"
SUBJECT = "outbox_subject_no_control_characters_no_encoded_words"
HEADERS = "outbox_headers_are_an_object_of_50_strings_within_8_kb"
FILES = "outbox_attachments_are_50_with_filename_content_type_and_base64"
DATES = "outbox_send_after_and_expires_at_are_within_2000_to_2200"

REFUSED = [
    *(({"recipient": value}, f"outbox_recipient_{ADDRESS}") for value in NOT_ONE_ADDRESS),
    *(({"sender": value}, f"outbox_sender_{ADDRESS}") for value in NOT_ONE_ADDRESS[:6]),
    *(({"reply_to": value}, f"outbox_reply_to_{ADDRESS}") for value in NOT_ONE_ADDRESS[:12]),
    *(({"subject": f"a{control}Bcc: x@y"}, SUBJECT) for control in CONTROLS.values()),
    ({"subject": "=?utf-8?q?a=0D=0ABcc:x@y?="}, SUBJECT),
    ({"subject": "x" * 999}, "outbox_subject_is_over_998_characters"),
    *(({"recipient_name": f"a{control}b"}, "outbox_recipient_name_is_a_line_of_320") for control in CONTROLS.values()),
    ({"recipient_name": "=?utf-8?q?x?="}, "outbox_recipient_name_is_a_line_of_320"),
    ({"recipient_name": "x" * 321}, "outbox_recipient_name_is_a_line_of_320"),
    ({"body_text": None}, "outbox_needs_a_body"),
    ({"body_text": "x" * 2097153}, "outbox_bodies_are_within_2_mb_each"),
    ({"body_html": "ü" * 1048577}, "outbox_bodies_are_within_2_mb_each"),
    ({"stream": "Main"}, "outbox_stream_is_a_slug"),
    ({"stream": ""}, "outbox_stream_is_a_slug"),
    ({"stream": "main\n"}, "outbox_stream_is_a_slug"),
    ({"campaign": "x" * 201}, "outbox_campaign_is_a_line_of_200"),
    ({"campaign": "a\nb"}, "outbox_campaign_is_a_line_of_200"),
    ({"thread_key": ""}, "outbox_thread_key_is_1_to_200"),
    ({"thread_key": "x" * 201}, "outbox_thread_key_is_1_to_200"),
    ({"idempotency_key": ""}, "outbox_idempotency_key_is_1_to_200"),
    ({"idempotency_key": "x" * 201}, "outbox_idempotency_key_is_1_to_200"),
    ({"kind": "marketing"}, "outbox_kind_is_bulk_or_transactional"),
    ({"on_uncertain": "retry"}, "outbox_on_uncertain_is_hold_or_resend"),
    ({"priority": 1001}, "outbox_priority_is_within_1000"),
    ({"priority": -1001}, "outbox_priority_is_within_1000"),
    *((as_json(headers={name: "x"}), "outbox_headers_names_allowed") for name in OWN_HEADERS),
    *((as_json(headers={"X-Tag": f"a{control}b"}), VALUES) for control in CONTROLS.values()),
    (as_json(headers={"X-Tag": "=?utf-8?q?x?="}), VALUES),
    (as_json(headers={"X-Tag": "x" * 999}), VALUES),
    *((as_json(headers=value), HEADERS) for value in (
        None, "X-A: b", 1, [], [{"X-A": "b"}], {"X-A": 1}, {"X-A": None}, {"X-A": ["b"]}, {"X-A": {}},
    )),
    (as_json(headers={f"X-{i}": "" for i in range(51)}), HEADERS),
    (as_json(headers={f"X-{i}": "x" * 900 for i in range(10)}), HEADERS),
    *(
        (as_json(attachments=value), FILES)
        for value in (
            None, {}, "x", attachment(), [1], ["x"], [None], [[attachment()]], [attachment(), {}], [attachment()] * 51,
            [attachment(filename=None)], [attachment(content_type=None)], [attachment(content_base64=None)], [attachment(content_base64=1)],
            [attachment(filename=["a"])], [attachment(filename="")], [attachment(filename="x" * 256)], [attachment(filename="../a")],
            [attachment(filename="a\\b")], *([attachment(filename=f"a{control}b")] for control in CONTROLS.values()),
            [attachment(content_type="pdf")], [attachment(content_type="a/b\r\nX-Evil: 1")], [attachment(content_type="a/b/c")],
            [attachment(content_type="text/plain; charset=utf-8")],
        )
    ),
    (as_json(attachments=[attachment(content_base64="A" * 14680064)]), "outbox_attachments_are_within_10_mb"),
    *((as_json(metadata=value), "outbox_metadata_is_an_object_within_16_kb") for value in (None, [], "x", {"x": "x" * 16384})),
]  # fmt: skip

ACCEPTED = [
    {"recipient": "müller@bücher.example"},
    {"recipient": "用户@例子.广告"},
    {"recipient": "o'brien+tag=x/y{z}|~!#$%&*?^`@sub.example.co.uk"},
    {"recipient": "a@localhost"},
    {"recipient": "a" * 64 + "@" + "b" * 255},
    {"recipient_name": 'Dr. "Bob" O\'Neill, <PhD>; (retired) 🎉'},
    {"recipient_name": ""},
    {"subject": ""},
    {"subject": "x" * 998},
    {"subject": "ü" * 998},
    {"subject": "Really? = yes, 100 % 👍🏽 \u202b\u05e2\u05d1\u05e8\u202c"},
    {"body_text": ""},
    {"body_text": None, "body_html": "<p>x</p>"},
    {"body_text": "a\r\n.\r\nb\x0c" + "x" * 1_000_000},
    {"campaign": ""},
    {"campaign": "Spring / 2026, ünïcode"},
    {"thread_key": "a\nb", "idempotency_key": "{\x01}"},
    {"priority": 1000},
    {"priority": -1000},
    {"on_uncertain": "resend", "kind": "transactional"},
    as_json(headers={"Auto-Submitted": "auto-generated", "X-Tag": "", "Precedence": "bulk", "List-Id": "x" * 998, "Tocsin": "ü"}),
    as_json(headers={f"X-{i}": "x" for i in range(50)}),
    as_json(
        attachments=[attachment(filename="Rechnung März 2026 (1).pdf", content_type="application/vnd.ms-excel.sheet.macroEnabled.12")] * 50
    ),
    as_json(attachments=[attachment(content_base64=base64.b64encode(bytes(10 * 1024 * 1024)).decode())]),
    as_json(metadata={"a": [1, None, {"b": "\u2028"}]}),
]


@pytest.fixture(autouse=True)
async def fleet(db):
    await add_fleet(db)


async def test_hostile_rows_are_refused_each_by_its_own_constraint(db):
    wrong = []
    for columns, constraint in REFUSED:
        try:
            await insert(db, **columns)
        except asyncpg.CheckViolationError as refused:
            if refused.constraint_name != constraint:
                wrong.append((repr(columns)[:120], refused.constraint_name))
        else:
            wrong.append((repr(columns)[:120], "accepted"))

    assert wrong == []
    assert await db.fetchval("SELECT count(*) FROM rotord.queue") == 0


async def test_odd_honest_rows_are_accepted_and_queued(db):
    ids = [await insert(db, **columns) for columns in ACCEPTED]

    assert await db.fetchval("SELECT count(*) FROM rotord.queue WHERE id = ANY ($1)", ids) == len(ACCEPTED)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "1999-12-31", "2201-01-01"])
@pytest.mark.parametrize("column", ["send_after", "expires_at"])
async def test_times_that_no_calendar_of_ours_holds_are_refused(db, column, moment):
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await db.execute(
            f"INSERT INTO rotord.outbox (client, recipient, subject, body_text, {column}) VALUES ('acme', 'a@b.c', 's', 'b', '{moment}')"
        )

    assert refused.value.constraint_name == DATES


async def test_a_key_is_unique_within_its_client_and_on_conflict_does_nothing(db):
    sql = """
    INSERT INTO rotord.outbox (client, recipient, subject, body_text, idempotency_key)
    VALUES ($1, 'a@b.c', 's', 'b', 'k') ON CONFLICT DO NOTHING RETURNING id
    """
    first, again, others = [await db.fetchval(sql, client) for client in ("acme", "acme", "other")]

    assert None not in {first, others}
    assert again is None
    assert await db.fetchval("SELECT count(*) FROM rotord.queue") == 2
    with pytest.raises(asyncpg.UniqueViolationError, match="outbox_idempotency_key_is_unique_per_client"):
        await insert(db, idempotency_key="k")


FLEET_REFUSED = [
    ("clients", {"slug": "Acme"}, "clients_slug_is_a_slug"),
    ("clients", {"slug": ""}, "clients_slug_is_a_slug"),
    ("clients", {"slug": "a/b"}, "clients_slug_is_a_slug"),
    ("clients", {"per_hour": -1}, "clients_per_hour_is_not_negative"),
    ("clients", {"per_day": -1}, "clients_per_day_is_not_negative"),
    ("clients", {"weight": 0}, "clients_weight_is_above_0"),
    ("clients", {"weight": "NaN"}, "clients_weight_is_above_0"),
    ("clients", {"weight": "Infinity"}, "clients_weight_is_above_0"),
    ("clients", {"transactional_reserve": 0.91}, "clients_transactional_reserve_is_0_to_09"),
    ("clients", {"transactional_reserve": "NaN"}, "clients_transactional_reserve_is_0_to_09"),
    ("clients", {"pacing": "fast"}, "clients_pacing_is_even_or_none"),
    ("clients", {"status": "on"}, "clients_status_is_active_paused_or_disabled"),
    ("clients", {"timezone": "Europe/Atlantis"}, "clients_timezone_exists"),
    ("clients", {"timezone": "FOO+3"}, "clients_timezone_exists"),
    ("clients", {"timezone": "CEST"}, "clients_timezone_exists"),
    ("clients", {"timezone": ""}, "clients_timezone_exists"),
    *(
        ("clients", {"sending_window": window}, "clients_sending_window_reads_mon_fri_0800_1900")
        for window in (
            "", "mon-fri", "08:00-19:00", "mon-fri 8-19", "monday 08:00-19:00", "mon-fri 08:00-25:00", "mon 08:00-09:60",
            "mon 08:00-09:00;",
        )
    ),
    ("domains", {"name": "Acme.example"}, "domains_name_is_a_lower_case_domain"),
    ("domains", {"name": "acme..example"}, "domains_name_is_a_lower_case_domain"),
    ("domains", {"name": "a@b.c"}, "domains_name_is_a_lower_case_domain"),
    ("domains", {"stream": "a/b"}, "domains_stream_is_a_slug"),
    ("domains", {"providers": ["mail-gun"]}, "domains_providers_are_names"),
    ("domains", {"providers": ["a,b"]}, "domains_providers_are_names"),
    ("domains", {"providers": [None]}, "domains_providers_are_names"),
    ("domains", {"providers": [""]}, "domains_providers_are_names"),
    ("domains", {"health": "ill"}, "domains_health_is_known"),
    ("domains", {"per_day": -1}, "domains_per_day_is_not_negative"),
    ("addresses", {"email": "A@acme.example"}, "addresses_email_is_lower_case"),
    ("addresses", {"email": "Ä@acme.example"}, "addresses_email_is_lower_case"),
    ("addresses", {"email": "a b@acme.example"}, "addresses_email_is_one_address"),
    ("addresses", {"email": "x@other.example"}, "addresses_domain_is_the_part_after_the_at"),
    ("addresses", {"email": "x@sub.acme.example"}, "addresses_domain_is_the_part_after_the_at"),
    ("addresses", {"display_name": "a\nb"}, "addresses_display_name_is_a_line_of_320"),
    ("addresses", {"per_hour": -1}, "addresses_per_hour_is_not_negative"),
    ("addresses", {"used_day": -1}, "addresses_used_day_is_not_negative"),
    ("addresses", {"health": "paused"}, "addresses_health_is_known"),
    ("campaigns", {"name": ""}, "campaigns_name_is_a_line_of_200"),
    ("campaigns", {"status": "on"}, "campaigns_status_is_active_paused_cancelled_or_done"),
    ("pauses", {"kind": "client", "name": "acme"}, "pauses_kind_is_all_stream_or_provider"),
    ("pauses", {"kind": "all", "name": "x"}, "pauses_name_fits_its_kind"),
    ("pauses", {"kind": "stream", "name": "acme"}, "pauses_name_fits_its_kind"),
    ("pauses", {"kind": "provider", "name": "A"}, "pauses_name_fits_its_kind"),
    ("suppressions", {"recipient": ""}, "suppressions_recipient_is_one_word"),
    ("suppressions", {"recipient": "a b@c.d"}, "suppressions_recipient_is_one_word"),
    ("suppressions", {"reason": "bounce"}, "suppressions_reason_is_known"),
]  # fmt: skip
WHOLE = {
    "clients": {"slug": "new"},
    "domains": {"name": "new.example", "client": "acme"},
    "addresses": {"email": "new@acme.example", "domain": "acme.example"},
    "campaigns": {"client": "acme", "name": "new"},
    "pauses": {"kind": "all", "name": ""},
    "suppressions": {"recipient": "a@b.c", "reason": "manual"},
}
FLEET_ACCEPTED = [
    ("clients", {"timezone": "America/Port-au-Prince", "per_hour": 0, "per_day": 0, "transactional_reserve": 0.9}),
    ("clients", {"weight": 0.001, "pacing": "even"}),
    *(
        ("clients", {"sending_window": window})
        for window in (
            "mon-fri 08:00-19:00", "mon,wed-fri 8:00-12:00, 13:00-24:00 ; sat 09:00-12:00", "daily 22:00-06:00", "Mon - Fri 08:00 - 19:00",
        )
    ),
    ("domains", {"name": "xn--bcher-kva.example", "providers": ["mailgun_eu", "1a"], "warmup": "standard"}),
    ("addresses", {"email": "o'neill+1@acme.example", "display_name": 'Anna "A." <Ä>'}),
    ("pauses", {"kind": "stream", "name": "acme/main"}),
    ("pauses", {"kind": "provider", "name": "mailgun_eu"}),
]  # fmt: skip


async def put(db, table, columns):
    values = WHOLE[table] | columns
    await db.execute(
        f"INSERT INTO rotord.{table} ({', '.join(values)}) SELECT {', '.join(values)} FROM jsonb_populate_record(NULL::rotord.{table}, $1)",
        json.dumps(values),
    )


async def test_a_slip_in_the_table_editor_is_refused_and_named(db):
    wrong = []
    for table, columns, constraint in FLEET_REFUSED:
        try:
            await put(db, table, columns)
        except asyncpg.CheckViolationError as refused:
            if refused.constraint_name != constraint:
                wrong.append((table, columns, refused.constraint_name))
        else:
            wrong.append((table, columns, "accepted"))

    assert wrong == []


async def test_odd_honest_fleets_are_accepted(db):
    for table, columns in FLEET_ACCEPTED:
        await put(db, table, columns)
        if table == "clients":
            await db.execute("DELETE FROM rotord.clients WHERE slug = 'new'")


async def test_a_suppression_is_one_however_its_recipient_is_spelled(db):
    sql = "INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ($1, $2, 'manual') ON CONFLICT DO NOTHING RETURNING recipient"

    assert await db.fetchval(sql, None, "Bob@ÄRGER.example") == "bob@ärger.example"
    assert await db.fetchval(sql, None, "bOB@ärger.example") is None
    assert await db.fetchval(sql, "acme", "bOB@ärger.example") == "bob@ärger.example"
    assert (
        await db.fetchval("SELECT recipient FROM rotord.queue WHERE id = $1", await insert(db, recipient="BOB@Ärger.example"))
        == "bob@ärger.example"
    )
