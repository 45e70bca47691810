"""docs/pcapctl.1: what --help says, as a page that man (groff) and mandoc read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import click
import pytest

from demo.processes import ROOT
from pcapd.ctl.commands.arguments import EXIT_STATUS
from pcapd.ctl.commands.man import ENVIRONMENT, page
from pcapd.ctl.main import cli
from pcapd.ctl.stream.proxy import VARIABLES

PAGE = ROOT / "docs" / "pcapctl.1"
PATIENCE = 60.0


def formatted(*command: str) -> str:
    """What a formatter shows, without overstrikes and colours; it must not complain."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} on this machine")
    environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    done = subprocess.run(
        [*command, str(PAGE)], env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if not command.hidden:
            yield name, command


def test_it_is_up_to_date(tmp_path: Path) -> None:
    """The man page equals what bin/build-man writes, and an old page is refused with the remedy."""
    check = [sys.executable, str(ROOT / "bin" / "build-man"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for part in ("bin/build-man", "pcapd", "docs"):
        copy, original = tmp_path / part, ROOT / part
        if original.is_dir():
            shutil.copytree(original, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            copy.parent.mkdir()
            shutil.copy(original, copy)
    (tmp_path / "docs" / "pcapctl.1").write_text("old")
    command = [sys.executable, str(tmp_path / "bin" / "build-man")]
    old = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (old.returncode, old.stderr) == (1, "docs/pcapctl.1 is out of date: run bin/build-man\n")
    assert (tmp_path / "docs" / "pcapctl.1").read_text() == "old"
    subprocess.run(command, timeout=PATIENCE, check=True)
    assert (tmp_path / "docs" / "pcapctl.1").read_bytes() == PAGE.read_bytes()


def test_pcapctl_prints_it() -> None:
    """``pcapctl man`` prints the page from the package alone."""
    done = subprocess.run(
        [sys.executable, "-m", "pcapd.ctl", "man"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True
    )  # fmt: skip
    assert done.stdout == PAGE.read_text() and done.stdout.isascii()


@pytest.mark.parametrize(
    "command",
    [("groff", "-man", "-Tutf8", "-ww"), ("groff", "-man", "-Tascii", "-ww")],
    ids=" ".join,
)
def test_it_is_read_without_warnings(command: tuple[str, ...]) -> None:
    """Every command and every option is in it by all its names, and nothing of the language is left over."""
    text = formatted(*command)
    assert text.startswith("PCAPCTL(1)") and "\\" not in text and "\b" not in text
    words = set(re.findall(r"[\w-]+", text))
    for name, one in commands():
        assert f"   pcapctl {name}" in text
        for option in one.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert {*option.opts, *option.secondary_opts} <= words, (name, option.name)
    assert "\n       -h, --help" in text and "\n       -o, -w, --output, --file FILE|-\n" in text
    assert "pcapctl hosts web-0 --filter 'tcp port 80' -o - | tshark -r -\n" in text
    assert "~/.bosh/config" in text
    for title in ("NAME", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"):
        assert f"\n{title}\n" in text


def test_mandoc() -> None:
    """mandoc only misses a date, which the page does not have: the same sources make the same page."""
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", str(PAGE)], capture_output=True, text=True, timeout=PATIENCE, check=False
    ) if shutil.which("mandoc") else pytest.skip("there is no mandoc on this machine")  # fmt: skip
    complaints = [line.partition(": WARNING: ")[2] for line in done.stdout.splitlines()]
    assert complaints == ['missing date, using "": TH']


def test_every_variable_is_in_it() -> None:
    """Every environment variable that the sources read is in the page."""
    read = set()
    for directory in ("ctl", "records", "savefile", "wire"):
        for path in (ROOT / "pcapd" / directory).rglob("*.py"):
            read |= set(
                re.findall(
                    r'(?:environ|environment|variables)(?:\.get\(|\[)"(\w+)"|envvar="(\w+)"', path.read_text()
                )
            )
    names = {"".join(found) for found in read}
    assert {"PCAP_API", "PCAP_TOKEN", "CF_HOME", "BOSH_CLIENT", "NO_COLOR", "TERM", "PCAPD_PURE"} <= names
    # OpenSSL reads this one.
    assert {name for name, _ in ENVIRONMENT} == names | {"SSL_CERT_FILE"} | set(VARIABLES)


def test_the_statuses_are_said_once() -> None:
    """Each capturing command's help ends with the exit statuses; the page has them in one section."""
    captures = [command for _, command in commands() if EXIT_STATUS in (command.epilog or "")]
    assert {command.name for command in captures} == {"bosh", "cf", "hosts", "ssh"}
    assert page(cli).count("the file is valid, but an instance failed") == 1


def test_letters_of_roff() -> None:
    """Text of a help is escaped for roff, and hidden options stay hidden."""

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    def group() -> None:
        r"""Do \n 'it'."""

    @group.command()
    @click.option("--x", metavar="`^~…√", help=".begins with a dot  \\fBand\\fR a-b")
    @click.option("--secret", hidden=True, help="nobody")
    @click.argument("thing")
    def first(x: str, secret: str, thing: str) -> None:
        """.TH is first.

        \b
        .SH stays
          in its lines\\
        """

    @group.command(hidden=True)
    def unlisted() -> None:
        """Nobody."""

    text = page(group)
    assert "pcapctl \\- do \\en \\(aqit\\(aq\n" in text
    assert (
        "\\fB\\-\\-x\\fR \\fI\\(ga\\(ha\\(ti...\\[u221A]\\fR\n\\&.begins with a dot \\efBand\\efR a\\-b\n"
        in text
    )
    assert ".SS pcapctl first \\fITHING\\fR\n\\&.TH is first.\n" in text
    assert "\n.nf\n\\&.SH stays\n  in its lines\\e\n.fi\n" in text
    assert "obody" not in text and "\\-\\-secret" not in text and "unlisted" not in text
