"""``pcapctl record``, ``recordings`` and ``recording``: what users write, and what they read."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, Dict

import click
import pytest
from click.testing import CliRunner

from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.login import anylogin
from pcapd.ctl.login.anylogin import AnyLogin, LoginArguments
from pcapd.ctl.main import cli
from pcapd.ctl.options import Access, UsageProblem
from pcapd.ctl.recordings import calls
from pcapd.ctl.recordings.moments import parse_moment, rfc3339, shown
from pcapd.ctl.recordings.saving import FetchOptions, part_of
from pcapd.ctl.recordings.text import as_table, described, short
from pcapd.errors import PcapdError, TargetNotFound
from tests.kit.doubles.recordings import ID, RecordingApi

HERE = datetime.timezone(datetime.timedelta(hours=1))
NOW = datetime.datetime(2026, 11, 29, 10, 0, tzinfo=HERE)
NOW_US = int(NOW.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-29T03:00:00Z", "2026-11-29T03:00:00.000000Z"),
        ("2026-11-29T03:00:00.5z", "2026-11-29T03:00:00.500000Z"),
        ("2026-11-29T03:00:00.123456789+02:00", "2026-11-29T01:00:00.123456Z"),
        ("2026-11-29 03:00", "2026-11-29T02:00:00.000000Z"),
        ("09:59:30.25", "2026-11-29T08:59:30.250000Z"),
        ("10:00", "2026-11-29T09:00:00.000000Z"),
        ("10:01", "2026-11-28T09:01:00.000000Z"),
    ],
)
def test_times(text: str, utc: str) -> None:
    """A time has its zone or the user's; a time of day is the last one."""
    assert rfc3339(parse_moment(text, NOW)) == utc


@pytest.mark.parametrize("text", ["", "now", "25:00", "10:61", "10:00:60", "2026-13-01T00:00:00Z", "5m"])
def test_no_times(text: str) -> None:
    """Other texts are refused."""
    with pytest.raises(ValueError, match="is not a time"):
        parse_moment(text, NOW)


@pytest.mark.parametrize("value", [None, -1, "5", 2**60, 1.5])
def test_times_of_a_strange_api(value: object) -> None:
    """What is not a time is not shown as one."""
    assert shown(value) == "-"


@pytest.mark.parametrize(
    ("options", "recording", "part"),
    [
        (FetchOptions(last=60), {"state": "recording"}, (NOW_US - 60_000_000, None)),
        (FetchOptions(last=60), {"state": "stopped", "ended_us": 90_000_000}, (30_000_000, None)),
        (FetchOptions(begin="09:00", end="09:10"), {}, (NOW_US - 3600_000_000, NOW_US - 3000_000_000)),
    ],
)
def test_what_is_wanted(options: FetchOptions, recording: Dict[str, Any], part: Any) -> None:
    """--last counts from the end of a recording, and from now while it runs."""
    wanted = part_of(options, recording, NOW)
    assert (wanted.from_us, wanted.to_us) == part


@pytest.mark.parametrize(
    "options",
    [
        {"last": 5.0, "begin": "03:00"},
        {"clip": 1, "tail": True},
        {"explain": True, "output": "-"},
        {"begin": "09:10", "end": "09:00"},
        {"begin": "tomorrow"},
    ],
)
def test_options_that_contradict(options: Dict[str, Any]) -> None:
    """Options that exclude each other are wrong usage."""
    with pytest.raises(UsageProblem):
        given = FetchOptions(**options)
        given.check()
        part_of(given, {}, NOW)


def test_short_ids() -> None:
    """As much of an id is shown as tells it from the others."""
    assert short("abcdefgh-1", ["abcdefgh-1", "xbcdefgh-1"]) == "abcdefgh"
    assert short("abcdefgh-1", ["abcdefgh-1", "abcdefgh-2"]) == "abcdefgh-1"


def test_the_table() -> None:
    """The newest recording is last; names cannot control the terminal; owners are shown if there are several."""
    first = {"id": "a" * 36, "owner": "alice", "since_us": 2_000_000, "state": "recording", "bytes": 1500}
    second = {
        "id": "b" * 36,
        "owner": "bob",
        "since_us": 1_000_000,
        "instances": ["web/10", "web/2", "\x1b[2J"],
    }
    lines = as_table([{**first, "clips": [{"number": 1}]}, second])
    assert [line.split()[0] for line in lines] == ["id", "bbbbbbbb", "aaaaaaaa"]
    assert "\\x1b[2J, web/2, web/10" in lines[1] and lines[1].endswith("bob")
    assert lines[2].split()[1:] == ["-", "1970-01-01T00:00:02Z", "recording", "1.5", "kB", "1", "alice"]
    assert "owner" not in as_table([first])[0]


def test_one_recording() -> None:
    """All that is known of a recording is shown, with its clips."""
    clip = {"number": 1, "reason": "crash of web/0", "first_us": 0, "last_us": 1_000_000, "bytes": 10}
    clip["findings"] = [{"severity": "error", "summary": "10 connections were refused"}]
    facts = {"keep": 900, "keep_bytes": 5_000_000, "deleted_packets": 3, "clip_on": {"filter": "tcp"}}
    text = "\n".join(described({"id": ID, "dropped": 1, "packets": 2, **facts, "clips": [clip]}))
    for words in (
        "the last 15 min, at most 5 MB; 3 older packets deleted",
        "a packet that matches tcp",
        "1 packet, dropped while",
        "1, crash of web/0; from 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z, 10 B",
        "error: 10 connections were refused",
    ):
        assert words in text


# --- commands ----------------------------------------------------------------------


def run(api: RecordingApi, *words: str, **environ: str) -> Any:
    """Run pcapctl against an api that is played."""
    env = {"PCAP_API": api.url, "PCAP_TOKEN": "t", "HOME": "/nonexistent", **environ}
    return CliRunner().invoke(cli, words, env=env, catch_exceptions=True)


def test_what_is_ordered() -> None:
    """The request has the options that were given, in the units of the api, and no others."""
    with RecordingApi() as api:
        words = "record hosts web-0 --keep 15m --keep-bytes 500MB --max-bytes 1GB --duration 1h"
        words += " --before 90500ms --headers-only --explain"
        done = run(api, *words.split(), "--clip-on", "filter tcp port 80", "--", "udp", "port", "53")
        assert done.exit_code == 0, done.output
    assert json.loads(api.asked[0].body) == {
        "targets": ["web-0"],
        "filter": "udp port 53",
        "duration": 3600.0,
        "max_bytes": 10**9,
        "headers_only": True,
        "keep": 900,
        "keep_bytes": 500_000_000,
        "clip_on": {"filter": "tcp port 80"},
        "before": 91,
        "explain": True,
    }
    assert f"recording {ID} has started" in done.output and "recording stop 5f0c2b7e" in done.output


@pytest.mark.parametrize("words", [("--clip-on", "filter "), ("--clip-on", "oom"), ("--before", "5m")])
def test_clips_that_cannot_be(words: Any) -> None:
    """A wrong occasion is refused before the api is asked."""
    with RecordingApi() as api:
        done = run(api, "record", "hosts", "web-0", *words)
        assert isinstance(done.exception, UsageProblem)
    assert not api.asked


@pytest.mark.parametrize(
    ("words", "method", "path", "said"),
    [
        (("show", "5f0c"), "GET", f"/{ID}", f"recording:  {ID}"),
        (("show", ID, "--new-hook"), "POST", f"/{ID}/hook", f"/v1/hooks/{ID}\nkey:        secret"),
        (("stop", "5f"), "POST", f"/{ID}/stop", f"{ID} ends"),
        (("clip", "5f", "--reason", "slow"), "POST", f"/{ID}/clip", "the clip is made"),
        (("delete", "5f"), "DELETE", f"/{ID}", f"{ID} is deleted"),
    ],
)
def test_commands(words: Any, method: str, path: str, said: str) -> None:
    """Each command asks for its page; the beginning of an id is enough."""
    with RecordingApi() as api:
        done = run(api, "recording", *words)
    assert done.exit_code == 0 and said in done.output
    assert (api.asked[-1].method, api.asked[-1].path) == (method, f"/v1/recordings{path}")
    assert api.asked[-1].headers["authorization"] == "bearer t"


def test_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of an id must be that of one recording."""
    found = {"recordings": [{"id": "abc"}, {"id": "abd"}]}
    monkeypatch.setattr(calls, "listed", lambda access: found)
    access = Access("https://pcap.example.com", None)
    assert calls.find(access, "abd") == "abd"
    with pytest.raises(UsageProblem, match="2 recordings begin"):
        calls.find(access, "ab")
    with pytest.raises(TargetNotFound):
        calls.find(access, "x")


# --- logins ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "logged_in", "asked", "way"),
    [
        ({"PCAP_TOKEN": "t"}, True, {}, "token"),
        ({}, True, {}, "cf"),
        ({}, False, {}, "bosh"),
        ({"PCAP_TOKEN": "t"}, True, {"way": "bosh"}, "bosh"),
        ({"PCAP_TOKEN": "t"}, True, {"environment": "prod"}, "bosh"),
        ({"PCAP_TOKEN": "t"}, True, {"way": "cf"}, "cf"),
    ],
)
def test_which_login(
    monkeypatch: pytest.MonkeyPatch, environ: Dict[str, str], logged_in: bool, asked: Dict[str, Any], way: str
) -> None:
    """A token comes first, then the cf CLI's login, then the BOSH CLI's; options choose another one."""

    class Session:
        def token(self) -> str:
            return "fresh"

    def read(path: Path) -> None:
        if not logged_in:
            raise LoginProblem("not logged in")

    monkeypatch.delenv("PCAP_TOKEN", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(anylogin, "read_login", read)
    monkeypatch.setattr(anylogin.cf, "session_of", lambda api, *_: (api, "as given", Session()))
    monkeypatch.setattr(anylogin.bosh, "session_of", lambda *_: (Session(), None))
    login = AnyLogin(LoginArguments("https://pcap.example.com", **asked), print)
    assert login.way == way
    assert login.access().token == ("t" if way == "token" else "fresh")
    assert login.access().bosh == (way == "bosh")


def test_no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any login, the message names all ways."""
    for name in ("PCAP_TOKEN", "BOSH_ENVIRONMENT", "BOSH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CF_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PcapdError, match=r"PCAP_TOKEN.*cf login.*bosh log-in"):
        AnyLogin(LoginArguments("https://pcap.example.com"), print)


def test_groups_have_help() -> None:
    """Each subcommand describes itself."""
    for name in ("record", "recording"):
        group = cli.get_command(click.Context(cli), name)
        assert isinstance(group, click.Group)
        assert all(command.help for command in group.commands.values())
