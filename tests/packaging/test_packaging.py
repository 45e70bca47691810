"""What we build must contain what it should, and work where only that is installed.

Nothing here imports pcapd: everything runs in a clean environment that has the
wheel and its dependencies, without the ``agent`` extra and so without libpcap.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from demo.processes import CommandFailed, run
from tests.packaging.installed import PATIENCE, PLUGIN, ROOT, Built, Installed, clean_environment


def _wheel_files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


def _sdist_files(sdist: Path) -> list[str]:
    """Return the files of an sdist, without its top directory."""
    with tarfile.open(sdist) as archive:
        return [member.name.partition("/")[2] for member in archive if member.isfile()]


def test_wheel_ships_nothing_of_twisted(built: Built) -> None:
    """The wheel has one file below twisted/, and no __init__.py that would hide Twisted's own."""
    assert [name for name in _wheel_files(built.wheel) if name.startswith("twisted/")] == [PLUGIN]


def test_wheel_installs_two_packages(built: Built) -> None:
    """The wheel installs two packages and nothing else, such as tests, etc or docs, on sys.path."""
    tops = {name.partition("/")[0] for name in _wheel_files(built.wheel)}
    assert {top for top in tops if not re.fullmatch(r"pcapd-[^/]+\.(dist-info|data)", top)} == {
        "pcapd",
        "twisted",
    }


@pytest.mark.long
def test_files_outside_the_packages(built: Built, installed: Installed) -> None:
    """The wheel installs the man page in man's directory, all of etc but the examples, and nothing else there."""
    data = [name.partition(".data/data/")[2] for name in _wheel_files(built.wheel) if ".data/" in name]
    expected = {"share/man/man1/pcapctl.1": ROOT / "docs" / "pcapctl.1"}
    for path in (ROOT / "etc").glob("*/**/*"):
        if path.is_file():
            expected[f"share/pcapd/{path.relative_to(ROOT / 'etc')}"] = path
    assert sorted(data) == sorted(expected)
    for name, path in expected.items():
        assert (installed.bin.parent / name).read_bytes() == path.read_bytes()


def test_wheel_is_complete(built: Built) -> None:
    """Every module of the checkout is in it, with the mark that it is typed, and the compiled ones."""
    files = _wheel_files(built.wheel)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pcapd").rglob("*.py")}
    assert modules - set(files) == set()
    assert "pcapd/py.typed" in files
    for source in (ROOT / "pcapd").rglob("_native.c"):
        compiled = source.relative_to(ROOT).with_suffix("").as_posix()
        assert [name for name in files if name.startswith(f"{compiled}.") and name.endswith("so")]


def test_sdist_is_complete(built: Built) -> None:
    """The sdist holds the sources, docs and tests, and no built file."""
    files = _sdist_files(built.sdist)
    assert [name for name in files if name.startswith("twisted/")] == [PLUGIN]
    assert {"LICENSE", "README.rst", "setup.py", "pyproject.toml"} <= set(files)
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "pcapd").rglob("*.[ch]")} - set(
        files
    ) == set()
    for directory in ("bin", "bosh", "demo", "docs", "etc", "tests"):
        sources = [path for path in (built.sources / directory).rglob("*") if path.is_file()]
        assert {str(path.relative_to(built.sources)) for path in sources} - set(files) == set()
    assert [name for name in files if name.endswith((".so", ".pyc", "dropin.cache"))] == []


def test_twistd_lists_us(installed: Installed) -> None:
    """The plugin is found where the wheel was installed."""
    assert re.search(r"^ +pcapd\b", installed.run("twistd", "--help"), re.MULTILINE)


def test_twistd_help(installed: Installed) -> None:
    """``twistd pcapd`` knows the two options that it cannot do without."""
    output = installed.run("twistd", "pcapd", "--help")
    assert "--role" in output
    assert "--config" in output


def test_twisted_is_whole(installed: Installed) -> None:
    """Twisted's own plugins are still found besides ours."""
    output = installed.run("twistd", "--help")
    assert re.search(r"^ +web\b", output, re.MULTILINE)
    assert "Unable to" not in output


def test_pcapd_version(installed: Installed, built: Built) -> None:
    """The daemon's --version equals the wheel's version."""
    version = built.wheel.name.split("-")[1]
    assert version in installed.run("pcapd", "--version")


def test_pcapctl_help(installed: Installed) -> None:
    """The client runs, and --help names its commands."""
    output = installed.run("pcapctl", "--help")
    assert "hosts" in output
    assert "status" in output


def test_api_and_pcapctl_need_no_libpcap(installed: Installed) -> None:
    """The modules of api and pcapctl import where pcapy and prctl are not installed.

    Those of recordings and of the state need the packages of pcapd[recordings], and are imported only if the
    configuration asks for them.
    """
    with pytest.raises(CommandFailed, match="No module named 'pcapy'"):
        installed.run("python", "-c", "import pcapy")
    program = (
        "import importlib, pkgutil, pcapd.api, pcapd.ctl\n"
        "for package in (pcapd.api, pcapd.ctl):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        optional = '.recordings.' in module.name or '.state.' in module.name\n"
        "        if not module.name.endswith('__main__') and not optional:\n"
        "            importlib.import_module(module.name)\n"
    )
    installed.run("python", "-c", program)


def test_compiled_where_there_is_a_compiler(installed: Installed) -> None:
    """The wheel has the compiled modules, and uses all of them."""
    assert _implementation(installed) == "native"


@pytest.mark.long
def test_works_without_a_compiler(built: Built, installed: Installed, tmp_path: Path) -> None:
    """Without a compiler the build succeeds, and the reference implementation runs."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path)]
    environment = clean_environment(CC="/bin/false", CXX="/bin/false")
    run([*build, str(built.sdist)], cwd=tmp_path, env=environment, timeout=PATIENCE)
    (wheel,) = tmp_path.glob("*.whl")
    assert not [name for name in _wheel_files(wheel) if name.endswith(".so")]

    without = tmp_path / "without"
    installed.run("pip", "install", "--quiet", "--no-deps", "--target", str(without), str(wheel))
    assert _implementation(installed, str(without)) == "reference"


def _implementation(installed: Installed, path: str = "") -> str:
    first = f"import sys; sys.path.insert(0, {path!r})\n" if path else ""
    program = (
        f"{first}from pcapd.analysis.flows import FlowTable\n"
        "from pcapd.merge import merge\n"
        "from pcapd.records import pack\n"
        "from pcapd.savefile.reader import packet_rows\n"
        "used = {what.__module__ for what in (FlowTable, merge, pack, packet_rows)}\n"
        "print(*sorted({name.rpartition('_')[2] for name in used}))\n"
    )
    return installed.run("python", "-c", program).strip()


# --- launchers of the checkout ---------------------------------------------------


@pytest.mark.parametrize("link", [False, True], ids=["directly", "by a link"])
@pytest.mark.parametrize(("name", "knows"), [("pcapd", "--role"), ("pcapctl", "hosts")])
def test_launchers_work_from_anywhere(tmp_path: Path, name: str, knows: str, link: bool) -> None:
    """The launchers find the checkout from any directory, and import nothing from that directory."""
    if not (ROOT / ".venv" / "stamp").exists():
        pytest.skip("bin/test has not set up .venv here")
    launcher = ROOT / "bin" / name
    if link:
        (tmp_path / name).symlink_to(launcher)
        launcher = tmp_path / name
    (tmp_path / "pcapd.py").write_text("raise SystemExit('the wrong pcapd')")
    assert knows in run([str(launcher), "--help"], cwd=tmp_path).stdout


@pytest.mark.parametrize("name", ["pcapd", "pcapctl"])
def test_launchers_say_what_to_do_first(tmp_path: Path, name: str) -> None:
    """In a fresh checkout the launchers name the command that makes them work."""
    shutil.copytree(ROOT / "bin", tmp_path / "bin")
    done = subprocess.run([tmp_path / "bin" / name], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run bin/quickstart or bin/test once" in done.stderr
