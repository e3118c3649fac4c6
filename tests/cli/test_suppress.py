"""suppress: by hand and by file; a file with one fault changes nothing and hears of all of them."""

import csv

from rotord.cli import suppression_csv


async def test_add_list_remove(rotord):
    assert (await rotord("suppress", "list")).out == "nobody is suppressed\n"
    assert (await rotord("suppress", "add", "Ann@Example.org")).out == "ann@example.org is suppressed for everybody (manual)\n"
    again = await rotord("suppress", "add", "ann@example.org", "--client", "acme", "--reason", "complaint", "--json")
    assert again.json == {"recipient": "ann@example.org", "client": "acme", "reason": "complaint", "added": True}
    twice = await rotord("suppress", "add", "ANN@example.org")
    assert twice.out == "ann@example.org is already suppressed for everybody (manual)\n"

    listed = (await rotord("suppress", "list", "--recipient", "ann@EXAMPLE.org", "--json")).json
    assert listed["total"] == 2
    assert {(row["client"], row["reason"], row["source"]) for row in listed["suppressions"]} == {
        (None, "manual", "cli"),
        ("acme", "complaint", "cli"),
    }
    assert "... and 1 more" in (await rotord("suppress", "list", "--limit", "1")).out

    removed = await rotord("suppress", "remove", "ann@example.org")
    assert removed.out.splitlines()[1] == "it still is for client acme (complaint)"
    refused = await rotord("suppress", "remove", "ann@example.org")
    assert refused.code == 1
    assert "it is for client acme (complaint)" in refused.err


async def test_what_is_no_address_is_a_usage_error(rotord):
    for recipient in ("ann", "a b@example.org", "a@b@c", "<a@b.c>", "a@b.c,d@e.f", ""):
        assert (await rotord("suppress", "add", recipient)).code == 2


async def test_every_fault_of_a_file_is_listed_and_nothing_is_imported(rotord, db, tmp_path):
    file = tmp_path / "in.csv"
    file.write_text(
        "recipient,client,reason,source\n"
        "good@example.org,,,\n"
        "bad,,,\n"
        "good@example.org,acm,,\n"
        "good@example.org,acme,moody,\n"
        "good@example.org,acme,manual,x,y\n",
        encoding="utf-8",
    )

    done = await rotord("suppress", "import", str(file))

    assert done.code == 1
    assert done.err.splitlines() == [
        f"rotord: {file}:3: 'bad' is not an e-mail address",
        f"rotord: {file}:4: there is no client acm; did you mean acme?",
        f"rotord: {file}:5: the reason 'moody' is none of hard_bounce, complaint, unsubscribe, manual",
        f"rotord: {file}:6: more fields than columns",
        f"rotord: {file}: nothing was imported",
    ]
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions") == 0


async def test_a_fault_behind_the_first_batch_still_leaves_nothing(rotord, db, tmp_path):
    file = tmp_path / "in.csv"
    rows = [f"r{number}@example.org" for number in range(suppression_csv.BATCH + 10)]
    file.write_text("\n".join(["recipient", *rows, "bad"]))

    assert (await rotord("suppress", "import", str(file))).code == 1
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions") == 0


NOT_CSV = [
    (b"mail,client\nx@y.z,\n", ":1: the first line must name the columns"),
    (b"", ":1: the first line must name the columns"),
    (b"recipient\n\xff@y.z\n", ": not UTF-8"),
    (b'recipient\n"x@y.z\n', ": unexpected end of data"),
]


async def test_what_is_no_such_csv_is_refused(rotord, tmp_path):
    for content, fault in NOT_CSV:
        (tmp_path / "in.csv").write_bytes(content)

        done = await rotord("suppress", "import", "in.csv")

        assert done.code == 1
        assert fault in done.err


async def test_what_was_exported_can_be_imported_elsewhere(rotord, db, tmp_path):
    (tmp_path / "in.csv").write_text('\ufeffrecipient,client,source\nA@x.org,,"said so, twice"\nb@x.org,acme,\n', encoding="utf-8")

    imported = await rotord("suppress", "import", "in.csv")
    assert imported.out == "2 suppressions added; 0 of 2 rows were there already\n"
    assert (await rotord("suppress", "export", "out.csv")).out == "2 suppressions written to out.csv\n"
    before = await db.fetch("SELECT recipient, client, reason, source FROM rotord.suppressions ORDER BY id")
    await db.execute("DELETE FROM rotord.suppressions")
    assert (await rotord("suppress", "import", "out.csv", "--json")).json == {"rows": 2, "added": 2}

    assert before == await db.fetch("SELECT recipient, client, reason, source FROM rotord.suppressions ORDER BY id")
    with (tmp_path / "out.csv").open() as file:
        assert [tuple(row) for row in csv.reader(file)][1:] == [
            ("a@x.org", "", "manual", "said so, twice"),
            ("b@x.org", "acme", "manual", "import"),
        ]


async def test_files_that_cannot_be_opened_are_told(rotord):
    assert (await rotord("suppress", "import", "none.csv")).err == "rotord: cannot read none.csv: No such file or directory\n"
    assert (await rotord("suppress", "export", "no/dir.csv")).err == "rotord: cannot write no/dir.csv: No such file or directory\n"
