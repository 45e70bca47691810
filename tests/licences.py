"""What pcapd depends on, and under which licence: ``python -m tests.licences``.

From the metadata of what is installed, so that it tells of the very versions
that run.  What setup.py asks for is where it begins; ``agent`` is what only the
agent needs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Dict, Iterable, List, Set

ROOT = Path(__file__).resolve().parents[1]

#: Not Python, so without such metadata.
OTHERS = (
    ("libpcap", "agent", "BSD-3-Clause"),
    ("libcap", "agent", "BSD-3-Clause or GPL-2.0"),
    ("OpenSSL 3", "api agent", "Apache-2.0"),
    ("CPython", "api agent client", "PSF-2.0"),
)
#: Whose metadata says less than its licence file.
KNOWN = {"pg8000": "BSD-3-Clause", "python-prctl": "GPL-3.0"}
#: Only what builds them is in the release as well.
BUILD = {"setuptools", "wheel"}
#: What the release and the one-file client pin.
LOCKS = [Path("bosh/config/wheels.lock"), Path("bin/client-requirements.txt")]


@dataclass(frozen=True)
class Dependency:
    """One package.

    Attributes:
        users: Who needs it: ``api``, ``agent``.
    """

    name: str
    version: str
    licence: str
    users: str


def requirements() -> Dict[str, List[str]]:
    """What setup.py asks for: ``install_requires``, and the extras ``recordings`` and ``agent``."""
    program = (
        "import json, sys, setuptools; sys.argv = ['setup.py', '--name'];"
        "setuptools.setup = lambda **facts: print(json.dumps("
        "[facts['install_requires'], *(facts['extras_require'][one] for one in ('recordings', 'agent'))]));"
        "exec(compile(open('setup.py').read(), 'setup.py', 'exec'), {'__file__': 'setup.py'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    everybody, recordings, agent = json.loads(done.stdout)
    return {"api": [*everybody, *recordings], "agent": [*everybody, *agent]}


def normal(name: str) -> str:
    """A package's name as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> Dict[str, str]:
    """The version and the hash of each package of a lock, by name."""
    lines = [line for line in (ROOT / path).read_text().splitlines() if line and not line.startswith("#")]
    return {normal(line.partition("==")[0]): line.partition("==")[2] for line in lines}


def closure(wanted: Iterable[str]) -> Set[str]:
    """These and what they need in turn; what is not installed here is not needed here."""
    found: Set[str] = set()
    left = list(wanted)
    while left:
        requirement = left.pop()
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
        assert match is not None
        name, extras = normal(match[1]), (match[2] or "").split(",")
        marker = requirement.partition(";")[2]
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            if marker:
                continue  # for another Python or another system
            raise
        if name not in found:
            found.add(name)
            left += [need for need in needs if "extra ==" not in need]
        for extra in filter(None, extras):
            left += [need for need in needs if re.search(rf"extra == ['\"]{extra}['\"]", need)]
    return found


def licence_of(name: str) -> str:
    """As the package's own metadata says it, the shortest way it does."""
    if name in KNOWN:
        return KNOWN[name]
    metadata = distribution(name).metadata
    expression = metadata.json.get("license_expression")
    if expression:
        return str(expression)
    classified = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or []
        if value.startswith("License ::") and value != "License :: OSI Approved"
    ]
    if classified:
        return ", ".join(classified)
    return str(metadata.json.get("license") or "unknown").splitlines()[0]


def dependencies() -> List[Dependency]:
    """All of them, by name."""
    needed = {user: closure(wanted) for user, wanted in requirements().items()}
    names = sorted(set().union(*needed.values()))
    return [
        Dependency(
            name,
            distribution(name).version,
            licence_of(name),
            " ".join(user for user in ("api", "agent") if name in needed[user]),
        )
        for name in names
    ]


def main() -> None:
    """Print the list."""
    rows = [(one.name, one.version, one.users, one.licence) for one in dependencies()]
    rows += [(name, "", users, licence) for name, users, licence in OTHERS]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
