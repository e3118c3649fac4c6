"""What the readers of settings and fleet share: the line of a key in any TOML, and what is an e-mail address."""

from __future__ import annotations

import pytest

from rotord.handwritten import FaultsError, is_address, is_domain, nearest, read_text, read_toml, shown

TOML = '''\
a.b = 1            # a dotted key
text = """
[not] # a table
x = 1 """
raw = \'\'\'
y = [ \'\'\'
"quoted.key" = { inner = 1, "x" = [
  2,   # ] }
] }

[ table . "with space" ]
key = "# no comment"
[[list]]
name = 1
[[list.inner]]
name = 2
[[list.inner]]
name = 3
[list.inner.deep]
name = 4
[[list]]
[[list.inner]]
name = 5
'''


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("a",), 1),
        (("a", "b"), 1),
        (("text",), 2),
        (("x",), None),
        (("raw",), 5),
        (("quoted.key",), 7),
        (("quoted.key", "inner"), 7),
        (("table", "with space"), 11),
        (("table", "with space", "key"), 12),
        (("table", "with space", "missing"), 11),
        (("list",), 13),
        (("list", 0, "name"), 14),
        (("list", 0, "inner", 0), 15),
        (("list", 0, "inner", 1, "name"), 18),
        (("list", 0, "inner", 1, "deep", "name"), 20),
        (("list", 1), 21),
        (("list", 1, "inner", 0, "name"), 23),
    ],
)
def test_a_key_is_found_on_its_line(tmp_path, line_end, where, line):
    path = tmp_path / "x.toml"
    path.write_bytes(TOML.replace("\n", line_end).encode())

    assert read_toml(path, 10_000).place(where) == (f"{path}:{line}" if line else str(path))


def test_a_fault_at_the_end_of_the_file_is_one_line(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("x = ")

    with pytest.raises(FaultsError) as caught:
        read_toml(path, 100)

    assert caught.value.lines == (f"{path}: is not TOML: Invalid value (at end of document)",)


def test_a_text_of_exactly_the_most_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_text("12345")

    assert read_text(path, 5) == "12345"
    with pytest.raises(FaultsError):
        read_text(path, 4)


@pytest.mark.parametrize(
    "text",
    ["a@b.example", "first.last+tag@sub.b.example", "o'neil@b.example", "x@xn--mller-kva.example", "a" * 64 + "@b.example"],
)
def test_addresses(text):
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@b.example",
        "a@",
        "a@b",
        "a@b@c.example",
        ".a@b.example",
        "a..b@c.example",
        "a b@c.example",
        '"a b"@c.example',
        "a@-b.example",
        "a@b-.example",
        "a@b..example",
        "a@b.example.",
        "a@b.example\n",
        "a@b_c.example",
        "ä@b.example",
        "a@ä.example",
        "A <a@b.example>",
        "a" * 65 + "@b.example",
        "a@" + "b" * 64 + ".example",
        "a@" + ".".join(["b" * 60] * 5),
    ],
)
def test_what_is_no_address(text):
    assert not is_address(text)


def test_domains_of_one_label_are_none():
    assert is_domain("a.b")
    assert not is_domain("localhost")


def test_the_nearest_is_offered_only_when_it_is_near():
    assert nearest("enigne", ["engine", "lease"]) == "; did you mean engine?"
    assert nearest("zzz", ["engine", "lease"]) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (5, "5"),
        (1.5, "1.5"),
        ("a\nb", "the text 'a\\nb'"),
        ("x" * 100, "the text '" + "x" * 39 + "..."),
        ({}, "a table"),
        ([1], "an array"),
        (None, "a NoneType"),
    ],
)
def test_values_are_shown_short_and_on_one_line(value, expected):
    assert shown(value) == expected
