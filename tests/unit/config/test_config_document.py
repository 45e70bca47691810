from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.config.document import read_document


def test_a_mapping() -> None:
    """A mapping is handed out as plain values, without problems."""
    assert read_document(b"a: 1\nb: [yes, ~, x]\n") == ({"a": 1, "b": [True, None, "x"]}, [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "nothing"),
        (b"# only this\n", "nothing"),
        (b"[1]", "a list"),
        (b"x", "text"),
        (b"2001-01-01", "a date"),
    ],
)
def test_not_a_mapping(text: bytes, found: str) -> None:
    """A document that is not a mapping is one problem, which names what was found."""
    assert (None, [f"the file must be a mapping of keys, not {found}"]) == read_document(text)


def test_duplicate_keys() -> None:
    """Every key that appears twice in one mapping is a problem with its line; the others are not."""
    values, problems = read_document(b"a: {x: 1, x: 2}\nb: {x: 1}\n'a': 3\n")
    assert values is not None
    assert problems == ["line 1: the key x appears twice", "line 3: the key a appears twice"]


def test_merged_keys_may_be_overridden() -> None:
    """A key that overrides a merged one is no duplicate, however the mappings refer to each other."""
    text = b"x: &x {k: 1}\nq: {a: &a {<<: *x, k: 2}}\nb: {<<: *a, k: 3}\n"
    assert read_document(text) == ({"x": {"k": 1}, "q": {"a": {"k": 2}}, "b": {"k": 3}}, [])


def test_syntax_errors_name_the_line() -> None:
    """A syntax error is one problem with its line, and without quoting the file."""
    values, problems = read_document(b"a: 1\nsecret: [one, two\nb: 2\n")
    assert values is None
    assert len(problems) == 1
    assert problems[0].startswith("line 3: not YAML: ")
    assert "two" not in problems[0]


@pytest.mark.parametrize("key", ["[x]", "{x: 1}"])
def test_a_key_that_is_no_plain_value_names_the_line(key: str) -> None:
    """A list or a mapping as a key is told with its line, like any other mistake in the text."""
    assert read_document(f"a: 1\n? {key}\n: 2\n".encode()) == (
        None,
        ["line 2: not YAML: found unhashable key"],
    )


@pytest.mark.parametrize(
    "text",
    [
        b"a: \xff\xfe",
        b"a: \x00",
        b"a: !!bool x",
        b"a: !!int ''",
        b"a: !!timestamp x",
        b"a: 2024-99-99",
        b"a: 1" + b":1" * 200 + b".5",
        b"a: 0x_",
        b"a: " + b"9" * 5000,
        b"a: !!python/object/apply:os.system [ls]",
        b"? [1]\n: 2",
        b"a: *nobody",
        b"a: 1\n---\na: 2",
        b"[" * 5000,
    ],
)
def test_not_plain_values(text: bytes) -> None:
    """Text that PyYAML stumbles over, or that asks for objects, is one problem and no exception."""
    values, problems = read_document(text)
    assert values is None
    assert len(problems) == 1
    assert "\n" not in problems[0]


@given(
    st.one_of(
        st.binary(max_size=100), st.text("{}[]:,-?*&!|>'\"%@` \n\tab1.~<=", max_size=60).map(str.encode)
    )
)
def test_any_bytes(data: bytes) -> None:
    """Any bytes parse or give a problem."""
    values, problems = read_document(data)
    assert values is not None or problems
