"""The live table as text: it fits, it hides no loss, and nobody's name drives the terminal."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from pcapd.ctl.display.progress import DROPS, Drop, Hidden, Row, Totals, View, sums
from pcapd.ctl.display.table import Look, places, render

SGR = re.compile(r"\x1b\[[0-9;]*m")
PLAIN = Look(color=False)


def drops(**counts: int) -> tuple[int, ...]:
    """Packets dropped at these places."""
    assert set(counts) <= {drop.place for drop in DROPS}
    return tuple(counts.get(drop.place, 0) for drop in DROPS)


ROWS = (
    Row("web-0:eth0", "open", 1234, 567_000, (0.0, 50.0, 100.0), clock_us=1200),
    Row("web-1:eth0", "closed", 99_000_000, 12_000_000_000, (2e6,), drops(kernel=7), -2_000_000),
    Row("web-2", "failed"),
)
ALL = Row("all", "", 99_001_234, 12_000_567_000, (2e6,), drops(kernel=7))
NOW = Totals(5.0, 30.0, 1_230_000, 100_000_000, 1234, 5000, awaited=2)


def shown(view: View, look: Look = PLAIN) -> list[str]:
    """The lines, after a look at what must hold for all of them."""
    lines = render(view, look)
    assert 0 < len(lines) < look.height or len(lines) == 1
    for line in lines:
        assert line.cells < look.width
        assert SGR.sub("", line.text).isprintable()
    return [line.text for line in lines]


def test_a_source_that_was_lost() -> None:
    """Counters of a lost source are lower bounds, and so are the sums."""
    rows = [Row("web-0:eth0", "lost", drops=drops(kernel=7), more=True), Row("web-1:eth0", "open")]
    lines = shown(View(tuple(rows), None, sums("all", rows), NOW))
    assert [re.findall(r"\d+\+?", line.partition(" 0 B ")[2]) for line in lines[2:5]] == [
        ["0", "7+", "0+"],
        ["0", "0", "0"],
        ["0", "7+", "0+"],
    ]


def test_what_a_stop_waits_for() -> None:
    """A stop shows below the table what it waits for."""
    lines = shown(
        View(ROWS, None, ALL, replace(NOW, stopping="interrupted", waiting=("waiting 3 s for a", "9 s left")))
    )
    assert lines[-2:] == [
        "waiting for 2 more instances · stopping: interrupted · waiting 3 s for a",
        "9 s left",
    ]


def test_80_columns() -> None:
    """80 columns hold all of the table's columns."""
    assert shown(View(ROWS, None, ALL, NOW)) == [
        "                                     per          dropped   dropped",
        "instance   state  packets  bytes  second           kernel interface   clock",
        "web-0:eth0 open      1234 567 kB      75 ▁▅█            0         0 +1.2 ms",
        "web-1:eth0 closed   99.0M  12 GB 2000000 █              7         0 -2.00 s",
        "web-2      failed       0    0 B       0                0         0",
        "all                 99.0M  12 GB 2000000 █              7         0",
        "0:05 (0:25 left) · 1.23 MB (98.8 MB left) · 1234 packets written (3766 left)",
        "waiting for 2 more instances · Ctrl-C stops and finishes the file",
    ]


def test_without_unicode() -> None:
    """A terminal without Unicode gets ASCII only."""
    text = "\n".join(shown(View(ROWS, None, ALL, NOW), Look(color=False, unicode=False)))
    assert text.isascii() and "_=#" in text


def test_colour() -> None:
    """Bad values are red, and without colour there is no escape sequence."""
    coloured = "\n".join(shown(View(ROWS, None, ALL, NOW), Look()))
    assert re.search(r"\x1b\[1;31m +7\x1b\[0m", coloured)
    assert not re.search(r"\x1b\[1;31m +0\x1b\[0m", coloured)
    assert SGR.sub("", coloured).split() == "\n".join(shown(View(ROWS, None, ALL, NOW))).split()


@pytest.mark.parametrize(
    ("width", "height"), list(itertools.product((20, 40, 60, 79, 80, 200), (4, 10, 24, 60)))
)
def test_any_size(width: int, height: int) -> None:
    """At any size the table fits, and no number of drops except 0 is hidden."""
    look = Look(width, height, color=False)
    rows = ROWS[: places(look)]
    lines = shown(View(rows, Hidden(3, ROWS[1]), ALL, NOW), look)
    if height >= 10 and width >= 40:
        assert any("web-0" in line for line in lines)
        assert any(line.startswith("dropped") or " dropped" in line for line in lines)
        assert any("and 3 more" in line for line in lines)


def test_drops_stay_where_others_go() -> None:
    """The column that is not all zeros outlives packets of an unhurt interface and the clock."""
    rows = (Row("web-0:eth0", "open", 5, 5, (), drops(interface=3), 9),)
    text = "\n".join(shown(View(rows, None, None, NOW), Look(width=40, color=False)))
    assert "interface" in text and "kernel" not in text and "clock" not in text


def test_long_names_lose_their_middle() -> None:
    """Long names are cut in the middle, so that beginning and end distinguish them."""
    rows = tuple(Row(f"haproxy/0b3f5d2c-3f52-4d3a-9c1e-{number:012}:eth0", "open") for number in range(2))
    lines = shown(View(rows, None, None, NOW))
    assert lines[2] != lines[3]
    assert lines[2].startswith("haproxy/") and ":eth0 " in lines[2] and "…" in lines[2]


@pytest.mark.parametrize(
    "name",
    ["[red]web[/red]", "[link=http://x]", ":smile:", "a\x1b[2Jb", "a\nb", "a\u202eb", "[/]", "\\[bold]"],
)
def test_names_of_strangers(name: str) -> None:
    """Names with markup, emoji or control characters are shown unchanged or escaped."""
    escaped = name.replace("\x1b", "\\x1b").replace("\n", "\\n").replace("\u202e", "\\u202e")
    for look in (PLAIN, Look()):
        text = SGR.sub("", "\n".join(shown(View((Row(name, "open"),), None, None, NOW), look)))
        assert escaped in text


def test_wide_characters() -> None:
    """Columns stay in line: what is drawn two columns wide is counted so."""
    rows = (Row("東京-0:eth0", "open", 1), Row("web-00:eth0", "open", 2))
    lines = render(View(rows, None, None, NOW), PLAIN)
    assert lines[2].cells == lines[3].cells == len(lines[2].text) + 2


@pytest.mark.parametrize(
    ("progress", "lines"),
    [
        (Totals(), ["waiting for the first instance"]),
        (Totals(awaited=3), ["waiting for the first instance", "waiting for 3 more instances"]),
        (
            Totals(1.0, findings="findings: 1 error"),
            ["0:01 · 0 B · 0 packets written", "findings: 1 error · Ctrl-C stops and finishes the file"],
        ),
        (
            Totals(3725.0, written=1, size=5, stopping="a\x1b[2J"),
            ["1:02:05 · 5 B · 1 packets written", "stopping: a\\x1b[2J"],
        ),
        (
            Totals(9.0, 5.0, 9, 5, 9, 5, 1),
            [
                "0:09 (0:00 left) · 9 B (0 B left) · 9 packets written (0 left)",
                "waiting for 1 more instance · Ctrl-C stops and finishes the file",
            ],
        ),
    ],
)
def test_below_the_table(progress: Totals, lines: list[str]) -> None:
    """The lines below the table have time and size left, never less than zero."""
    assert shown(View((), None, None, progress)) == lines


def test_a_narrow_terminal_has_more_lines() -> None:
    """A narrow terminal gets more lines instead of a number that is cut."""
    assert shown(View((), None, None, NOW), Look(width=40, color=False)) == [
        "0:05 (0:25 left)",
        "1.23 MB (98.8 MB left)",
        "1234 packets written (3766 left)",
        "waiting for 2 more instances",
        "Ctrl-C stops and finishes the file",
    ]


def test_further_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is a line in DROPS; its column appears with the first packet that is dropped there."""
    places_now = (*DROPS, Drop("agent", lambda account: 0), Drop("client", lambda account: 0))
    monkeypatch.setattr("pcapd.ctl.display.table.DROPS", places_now)
    none = (0,) * (len(DROPS) + 2)
    rows = (Row("web-0:eth0", "open", drops=none), Row("web-1:eth0", "open", drops=(*none[:-1], 4)))
    assert not {"agent", "client"} & set("\n".join(shown(View(rows[:1], None, None, NOW))).split())
    words = "\n".join(shown(View(rows, None, None, NOW))).split()
    assert "client" in words and "agent" not in words
