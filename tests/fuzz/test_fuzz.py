"""Every decoder of foreign bytes withstands its corpus and a few thousand mutations of it."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.mutate import mutations, seeds_of
from tests.fuzz.sanitizer import ROOT, build, environment
from tests.fuzz.targets import CORPUS, NATIVE, TARGETS

#: Mutations per target here; ``bin/fuzz`` has no end.
MUTATIONS = 3000
#: PyYAML takes its time for each.
SLOW = {"configuration": 150}


def test_every_target_has_a_corpus() -> None:
    """Every fuzz target has seeds, and every directory of seeds a target."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    """Every saved input, those that once broke something among them, is withstood."""
    for file, data in seeds_of(name).items():
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"corpus/{name}/{file}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    """Mutations of the corpus, the same in every run, are withstood as well."""
    seeds = list(seeds_of(name).values())
    for data in itertools.islice(mutations(seeds, seed=1), SLOW.get(name, MUTATIONS)):
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{name} with {data!r}") from error


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for builds with sanitizers, where they can be."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed")
    return tmp_path_factory.mktemp("sanitized")


def under_sanitizers(built: Path, findings: Path, *names: str) -> subprocess.CompletedProcess[str]:
    more = ["--sanitize", "--runs", "1000", "--seed", "1", "--findings", str(findings)]
    return sanitized_run(built, "tests.fuzz", *names, *more)


def sanitized_run(built: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What a module of ours does with these builds."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=environment(built),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def whole(sanitized: Path) -> Path:
    """Builds of all compiled modules as they are."""
    (sanitized / "whole").mkdir()
    return build(sanitized / "whole")


@pytest.mark.long
def test_the_c_code_under_sanitizers(whole: Path, tmp_path: Path) -> None:
    """The C code reads and writes within bounds and without undefined behaviour, whatever a batch claims."""
    done = under_sanitizers(whole, tmp_path, *NATIVE)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("inputs") == len(NATIVE)


@pytest.mark.long
def test_a_batch_that_another_thread_changes_under_sanitizers(whole: Path) -> None:
    """merge stays within bounds under sanitizers while another thread changes the batch."""
    done = sanitized_run(whole, "tests.fuzz.race")
    assert done.returncode == 0, done.stderr[-4000:]


#: Checks of the C code: the targets that reach them, where they stand, and what is there without them.
CHECKS = {
    "record": ("merge_batches", "records/_record.h", "|| record->captured > left - HEADER_SIZE", ""),
    "header": ("records_headers", "packet/_walker.h", "at + size <= packet->size", "1"),
    "ipv4_header": ("records_headers", "packet/_walker.h", "!has(packet, at, IPV4_MIN) ||", ""),
    "transport": (
        "records_rows",
        "packet/_walker.h",
        "    if (!has(packet, at, size))\n        return;\n",
        "",
    ),
    "packet": (
        "records_pack",
        "records/_native.c",
        "(uint64_t)entry->offset + entry->length <= (uint64_t)packets->len",
        "1",
    ),
    "savefile": ("records_savefile", "records/_savefile.h", " || fields.captured > left - HEADER_SIZE", ""),
    "limit": ("records_savefile", "records/_savefile.h", "*room > alone ? *room : alone", "*room"),
    "rest": ("race", "merge/_native.c", "if (length > size)", "if (0)"),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.long
def test_the_sanitizers_see_a_check_that_is_missing(check: str, sanitized: Path, tmp_path: Path) -> None:
    """Without one of its checks the C code goes out of bounds, and these inputs show it."""
    target, place, there, instead = CHECKS[check]
    text = (ROOT / "pcapd" / place).read_text()
    assert text.count(there) == 1
    (sanitized / check).mkdir()
    package = "merge" if target == "race" else target.partition("_")[0]
    broken = build(sanitized / check, [package], {f"pcapd/{place}": text.replace(there, instead)})
    if target == "race":
        done = sanitized_run(broken, "tests.fuzz.race")
    else:
        done = under_sanitizers(broken, tmp_path, target)
    assert done.returncode == 1
    assert "ERROR: AddressSanitizer" in done.stderr
