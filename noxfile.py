"""Runs tests with every Python that this machine has: ``bin/test --all-pythons``.

    nox -l                              the sessions
    nox -s daemon-3.10 -- tests/unit/api     with other arguments for pytest

Pythons that are missing are skipped and listed.  Found are those in PATH, of pyenv, and in /opt/python.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from tests.packaging.client_file import find_python  # noqa: E402

#: Minor versions of Python 3 for the daemon; those for the client begin with 9.
DAEMON = range(10, 15)
CLIENT = range(9, 15)

nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

# Before the shims of pyenv, which do not run the versions that are not chosen.
_found = [find_python(minor) for minor in CLIENT]
os.environ["PATH"] = os.pathsep.join(
    [*(str(Path(path).parent) for path in _found if path), os.environ.get("PATH", "")]
)
_second = next(
    (f"3.{minor}" for minor in DAEMON if minor != sys.version_info[1] and _found[minor - CLIENT.start]), None
)


@nox.session(python=[f"3.{minor}" for minor in DAEMON])
def daemon(session: nox.Session) -> None:
    """The unit tests of daemon and client, with everything installed."""
    _unit_tests(session)


@nox.session(python=_second, default=False)
def second(session: nox.Session) -> None:
    """The same, with the oldest Python that .venv does not have: continuous integration uses these two."""
    if _second is None:
        session.skip("there is no second Python here")
    _unit_tests(session)


def _unit_tests(session: nox.Session) -> None:
    header = "import os, sysconfig; print(os.path.join(sysconfig.get_path('include'), 'Python.h'))"
    path = session.run("python", "-c", header, silent=True)
    if not isinstance(path, str) or not Path(path.strip()).exists():
        session.skip("this Python has no headers, which python-prctl and pcapy-ng need")
    session.install("--no-binary", "pcapy-ng,python-prctl", "--editable", ".[agent,test]",
                    "--config-settings", "editable_mode=compat")  # fmt: skip
    session.run("python", "-m", "pytest", "--quiet", "--numprocesses=2", *(session.posargs or ["tests/unit"]))


@nox.session(venv_backend="none")
@nox.parametrize("minor", CLIENT)
def client(session: nox.Session, minor: int) -> None:
    """The one-file client with a Python that has nothing installed."""
    if find_python(minor) is None:
        session.skip(f"there is no python3.{minor}")
    session.run(sys.executable, "-m", "pytest", "--quiet", "tests/packaging/test_client_file.py",
                "-k", f"python3.{minor}")  # fmt: skip
