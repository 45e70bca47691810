"""Wireshark's calls, the sentences that answer them, the toolbar's messages, and the launcher."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.ctl.extcap import configuration
from pcapd.ctl.extcap import install as install_module
from pcapd.ctl.extcap.calls import Call, is_call, parse
from pcapd.ctl.extcap.command import PREPARE, options_of
from pcapd.ctl.extcap.control import ControlProblem, Controls, Kind, Message, encode, text
from pcapd.ctl.extcap.filtercheck import filter_problem
from pcapd.ctl.extcap.install import folder_of, install, launcher, uninstall
from pcapd.ctl.login import cf
from pcapd.ctl.login.cf import CfArguments
from pcapd.ctl.options import Access, CaptureOptions, CaptureTarget, Trust, UsageProblem
from pcapd.errors import PcapdError
from pcapd.limits import FILTER_MAX
from pcapd.savefile.form import Form

#: As Wireshark takes sentences apart (extcap_parser.c).
FIELD = re.compile(r"\{([a-zA-Z_-]*?)=(.*?)\}(?=\{|$|\s)")


def fields(line: str) -> dict[str, str]:
    return dict(FIELD.findall(line))


# --- calls ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "flags", "values"),
    [
        (
            ["--extcap-interfaces", "--extcap-version=4.0"],
            {"--extcap-interfaces"},
            {"--extcap-version": "4.0"},
        ),
        (
            ["extcap", "--extcap-interface", "pcapctl-cf", "--extcap-dlts"],
            {"--extcap-dlts"},
            {"--extcap-interface": "pcapctl-cf"},
        ),
        (
            ["--capture", "--extcap-capture-filter", "--", "--fifo=/a=b", "--app", "--extcap-config"],
            {"--capture"},
            {"--extcap-capture-filter": "--", "--fifo": "/a=b", "--app": "--extcap-config"},
        ),
        (["--extcap-new", "--extcap-config"], {"--extcap-config"}, {}),
        (["--extcap-new", "value", "--extcap-config"], {"--extcap-config"}, {"--extcap-new": "value"}),
        (["--extcap-config", "--extcap-new"], {"--extcap-config"}, {}),
    ],
)
def test_parse(arguments: list[str], flags: set[str], values: dict[str, str]) -> None:
    """Option values are parsed in both spellings, and unknown options are passed over."""
    assert parse(arguments) == Call(frozenset(flags), values)
    assert is_call(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--extcap-config", "stray"],
        ["--extcap-config", "--app"],
        ["--extcap-config", "stray", "words"],
        ["--extcap-config", "a=b"],
    ],
)
def test_no_call(arguments: list[str]) -> None:
    """Arguments that are not an extcap call are wrong usage."""
    with pytest.raises(UsageProblem):
        parse(arguments)


def test_our_own_commands_are_no_calls() -> None:
    """The commands of pcapctl itself are not taken for extcap calls."""
    assert not is_call(["extcap", "--install"])
    assert not is_call(["cf", "extcap", "--filter", "tcp"])


def test_options_of_a_capture() -> None:
    """Wireshark's own filter counts besides ours; lists have commas, spaces, or both."""
    values = {
        "--extcap-capture-filter": " tcp ",
        "--filter": "port 80 or port 443",
        "--device": ",eth0, lo,",
        "--snaplen": "128",
        "--duration": "5m",
        "--order": "false",
        "--headers-only": "true",
        "--reason": "TICKET-7",
        "--explain": "true",
        "--show-contents": "true",
    }
    options = options_of(Call(values=values))
    assert options.filter == "(tcp) and (port 80 or port 443)"
    assert (options.interfaces, options.snaplen, options.duration) == (("eth0", "lo"), 128, 300.0)
    assert (options.ordered, options.form, options.output) == (False, Form.PCAPNG, "-")
    assert options.headers_only and options.files.explain and options.files.contents
    assert options.reason == "TICKET-7"
    assert options_of(Call(values={"--filter": "tcp"})).filter == "tcp"
    assert options_of(Call()).ordered and not options_of(Call()).headers_only
    assert not options_of(Call()).files.explain and not options_of(Call()).files.contents


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--snaplen", "0"),
        ("--snaplen", "262145"),
        ("--snaplen", "-1"),
        ("--snaplen", "many"),
        ("--snaplen", "٣"),
        ("--snaplen", "0000000001"),
        ("--snaplen", "9" * 5000),
        ("--duration", "30"),
        ("--duration", "0s"),
        ("--order", "maybe"),
        ("--headers-only", "maybe"),
        ("--filter", "(tcp"),
        ("--extcap-capture-filter", "tcp\x07"),
    ],
)
def test_options_that_cannot_be(name: str, value: str) -> None:
    """An invalid value of an option is wrong usage."""
    with pytest.raises(UsageProblem):
        options_of(Call(values={name: value}))


@pytest.mark.parametrize(("said", "follow"), [({}, False), ({"--follow": "true"}, True)])
def test_what_is_asked_of_an_app(said: dict[str, str], follow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialog's values become the request for an app; other instances are followed only on request."""
    asked: list[CfArguments] = []

    def prepare(one: CfArguments, _options: CaptureOptions) -> tuple[Access, CaptureTarget]:
        asked.append(one)
        return Access("https://pcap.example", None), CaptureTarget()

    monkeypatch.setattr(cf, "prepare", prepare)
    call = Call(values={"--app": "listed", "--instances": "0,2", **said})
    PREPARE["pcapctl-cf"](call, options_of(call))
    assert asked == [CfArguments("listed", (0, 2), "web", follow, None, None, Trust.ALSO_GIVEN)]


# --- sentences -----------------------------------------------------------------------


def test_interfaces() -> None:
    """The version first, the five interfaces, and a toolbar with numbers of its own."""
    lines = configuration.interfaces("1.2.3")
    assert fields(lines[0]) == {"version": "1.2.3", "display": "pcapd"}
    shown = [fields(line)["display"] for line in lines if line.startswith("interface ")]
    assert shown == ["Cloud Foundry app", "BOSH VMs", "pcapd hosts", "hosts over ssh", "pcapd recordings"]
    controls = [fields(line) for line in lines if line.startswith("control ")]
    assert [(one["number"], one["type"]) for one in controls] == [
        ("0", "button"),
        ("1", "string"),
        ("2", "string"),
        ("4", "string"),
        ("3", "button"),
    ]
    assert controls[4]["role"] == "logger"
    assert len(lines) == 11


@pytest.mark.parametrize("interface", configuration.INTERFACES.values(), ids=lambda one: one.value)
def test_arguments(interface: configuration.Interface) -> None:
    """Arguments have ascending numbers and unique options, and Wireshark's parser accepts all of them."""
    lines = [fields(line) for line in configuration.arguments_of(interface) if line.startswith("arg ")]
    assert [one["number"] for one in lines] == [str(number) for number in range(len(lines))]
    assert len({one["call"] for one in lines}) == len(lines)
    for line, argument in zip(lines, interface.arguments):
        assert (line["call"], line["display"], line["tooltip"]) == (
            argument.call,
            argument.display,
            f"{argument.tooltip} ({argument.call})",
        )
        assert line["type"] in ("string", "integer", "boolean", "selector", "fileselect")  # as 4.0 has them
        assert line.get("validation", "") == argument.validation


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("--instances", ["", "all", "0, 2"], ["0,", "x"]),
        ("--duration", ["30s", "1.5 h", "500ms"], ["30", "0s", "soon", "5m or so"]),
        (
            "--filter",
            ["", "tcp port 80", "host 192.0.2.1 and tcp[13] & 2 != 0", "net 2001:db8::/32"],
            ["ip.addr == 192.0.2.1", "http.request", "tcp\nport 80"],
        ),
    ],
)
def test_validation(name: str, good: list[str], bad: list[str]) -> None:
    """Wireshark's dialog saves nothing that the capture would refuse."""
    validations = {
        argument.validation
        for interface in configuration.INTERFACES.values()
        for argument in interface.arguments
        if argument.call == name and argument.validation
    }
    (validation,) = validations
    assert [text for text in good + bad if re.search(validation, text)] == good


@pytest.mark.parametrize("interface", configuration.INTERFACES.values(), ids=lambda one: one.value)
def test_what_is_not_set_is_not_told(interface: configuration.Interface) -> None:
    """Wireshark takes an empty field for a value."""
    lines = configuration.interfaces("1.2.3") + configuration.arguments_of(interface)
    assert not [line for line in lines if "=}" in line and not line.startswith("value ")]


@pytest.mark.parametrize("number", range(5))
def test_choices_have_the_number_of_their_argument(number: int) -> None:
    """Reloaded choices carry the number that their argument has in the whole answer."""
    interface = configuration.INTERFACES["pcapctl-cf"]
    call = interface.arguments[number].call
    (line,) = configuration.choices_of(interface, call, [configuration.Choice("x", "X")])
    assert fields(line)["arg"] == str(number)


@given(st.text())
def test_a_choice_stays_one_sentence(name: str) -> None:
    """A choice stays one sentence of three fields on one line, whatever the app's name is."""
    (line,) = configuration.choices_of(
        configuration.INTERFACES["pcapctl-cf"], "--app", [configuration.Choice("guid", name)]
    )
    assert line.isprintable()
    assert list(fields(line)) == ["arg", "value", "display"]
    assert fields(line)["value"] == "guid"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("tcp port 80 and (host a or (host b))", ""),
        ("ip[6:2] & 0x1fff = 0", ""),
        ("(tcp", "the ( at character 1 is not closed"),
        ("tcp) or (udp", "the ) at character 4 has no matching ("),
        ("((a) or (b)", "the ( at character 1 is not closed"),
        ("tcp\nudp", "control characters"),
        ("a" * FILTER_MAX, ""),
        ("a" * (FILTER_MAX + 1), "at most"),
        ("é" * (FILTER_MAX // 2 + 1), "at most"),
        ("\udcff", "control characters"),
    ],
)
def test_filter_problem(text: str, words: str) -> None:
    """A filter problem is found without libpcap, and no filter that libpcap accepts is refused."""
    problem = filter_problem(text)
    assert words in problem and bool(words) is bool(problem)


# --- the toolbar's messages ---------------------------------------------------------


def test_bytes_of_a_message() -> None:
    """A control message is T, 24 bits of length, control and command, as in doc/extcap_example.py."""
    assert encode(text(2, Kind.SET, "kernel 3")) == b"T\x00\x00\x0a\x02\x01kernel 3"
    assert encode(Message(0, Kind.DISABLE)) == b"T\x00\x00\x02\x00\x05"
    assert encode(text(3, Kind.ADD, "x" * 70_000))[:6] == b"T\x01\x00\x01\x03\x02"
    assert len(text(1, Kind.SET, "x" * 70_000).payload) == 32767


@given(
    st.lists(st.builds(Message, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=300))),
    st.integers(1, 50),
)
def test_messages_in_pieces(messages: list[Message], size: int) -> None:
    """Control messages come out the same, however they are cut."""
    controls = Controls()
    data = b"".join(map(encode, messages))
    received = []
    for start in range(0, len(data), size):
        received += controls.receive(data[start : start + size])
    assert received == messages


@pytest.mark.parametrize("data", [b"X\0\0\2\0\0", b"T\0\0\1\0\0", b"T\xff\0\0\0\0"])
def test_no_message(data: bytes) -> None:
    """A malformed or oversized control message is refused without allocating its length."""
    with pytest.raises(ControlProblem):
        Controls().receive(data)


# --- the launcher --------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_launcher_quotes(command: list[str]) -> None:
    """The launcher starts its command with the same arguments, whatever characters a path has."""
    line = launcher(command).split("\n", 2)[2]
    assert shlex.split(line) == ["exec", *command, "$@"]


@pytest.mark.parametrize(
    ("told", "folder"),
    [
        (
            "Personal configuration:\t/h/.config/wireshark\nExtcap path: /usr/x\n",
            "/h/.config/wireshark/extcap",
        ),
        (
            "Personal configuration:\t/h/.config/wireshark\n"
            "Personal Extcap path:\t/h/.local/lib/wireshark/extcap\nGlobal Extcap path:\t/usr/x\n",
            "/h/.local/lib/wireshark/extcap",
        ),
        ("Personal configuration:\t/h\nPersonal Extcap path:\t\n", "/h/extcap"),
        ("Extcap path: /usr/x\n", None),
        ("", None),
    ],
)
def test_folder(told: str, folder: str | None) -> None:
    """The folder is the user's own, of Wireshark 4.0 or of later versions."""
    assert folder_of(told) == (Path(folder) if folder else None)


def test_install_and_uninstall(tmp_path: Path) -> None:
    """Installing or uninstalling twice works, the launcher runs from anywhere, and no file is left."""
    folder = tmp_path / "a directory"
    for _ in range(2):
        path = install(folder)
    assert [one.name for one in folder.iterdir()] == ["pcapctl"]
    done = subprocess.run([path, "--extcap-interfaces"], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("extcap {version=")
    assert uninstall(folder) == [path]
    assert not list(folder.iterdir())
    assert uninstall(folder) == []


def test_a_launcher_that_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed launcher is tried, and its error is shown."""
    monkeypatch.setattr(install_module, "launcher", lambda _: "#!/bin/sh\necho broken >&2\nexit 3\n")
    with pytest.raises(PcapdError, match="pcapctl does not work: broken"):
        install(tmp_path)


def test_programs_that_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher or tshark that does not answer is given up after a time."""
    monkeypatch.setattr(install_module, "_TIMEOUT", 0.1)
    monkeypatch.setattr(install_module, "launcher", lambda _: "#!/bin/sh\nexec sleep 30\n")
    with pytest.raises(PcapdError, match="pcapctl does not answer"):
        install(tmp_path)
    assert install_module._output_of(str(tmp_path / "pcapctl"), "-G", "folders") == ""


def test_where_there_is_no_wireshark_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place where every version looks; without a home there is none."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(install_module, "_MACOS_TSHARK", str(tmp_path / "none"))
    monkeypatch.setattr(install_module, "launcher", lambda _: "#!/bin/sh\nexit 0\n")
    assert install(None) == tmp_path / ".config" / "wireshark" / "extcap" / "pcapctl"
    monkeypatch.setenv("HOME", "")
    with pytest.raises(UsageProblem, match="HOME is not set"):
        install(None)


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    """A program of the same name is neither replaced nor removed."""
    other = tmp_path / "pcapctl"
    other.write_text("#!/bin/sh\n")
    with pytest.raises(PcapdError, match="is not pcapctl's"):
        install(tmp_path)
    assert uninstall(tmp_path) == []
    assert other.read_text() == "#!/bin/sh\n"
