"""The pictures in README.rst: ``python -m tests.pictures`` makes them anew, as root.

``table.svg`` is the live table of a capture that is made up (`tests.screens`).  ``explain.png`` is
the page of ``pcapctl explain`` about real traffic with real faults between two namespaces
(`tests.hosts.scenarios.stage`), as headless Chromium shows it.  ``--table`` makes only the first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from demo.processes import ROOT
from pcapd.ctl.display.table import Look
from tests.hosts.scenarios.files import named
from tests.hosts.scenarios.stage import Stage, answer, connection, get, web
from tests.screens import few

PICTURES = ROOT / "docs" / "pictures"
TABLE, PAGE = PICTURES / "table.svg", PICTURES / "explain.png"
#: bytes; a picture is part of the repository for ever.
SIZE_MAX = 200_000

_SEED = 22
_SECONDS = 8.0
_COLUMNS = 84
#: Width and height of the window, in CSS pixels.
_WINDOW = 1040, 1580
#: The fonts that rich would load from another site.
_FONTS = re.compile(r"\s*@font-face \{\{.*?\}\}\n", re.DOTALL)
_MANY, _BIG = bytes(20_000), bytes(120_000)


def table() -> str:
    """The live table as SVG, which loads nothing."""
    scene = few()
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, _environ={})
    console.print(Text("$ pcapctl cf myapp --filter 'tcp port 8080' --duration 30s --explain"))
    look = Look(_COLUMNS, 24)
    for line in [*scene.before(), "myapp/2: is CRASHED", *scene.table(look, "findings: 2 errors, 1 warning")]:
        console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    # Otherwise the frame would cut the last line's letters.
    console.print()
    form = _FONTS.sub("\n", CONSOLE_SVG_FORMAT)
    return console.export_svg(title="pcapctl", theme=MONOKAI, code_format=form, unique_id="table")


def words(svg: str) -> list[str]:
    """The texts in an SVG, which do not depend on rich's version."""
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)


# --- traffic ---------------------------------------------------------------------


def _reply(number: int, head: bytes) -> bytes:
    draw = random.Random(head)
    path = head.split(b" ")[1]
    if path.startswith(b"/reports"):
        time.sleep(draw.uniform(1.2, 2.0))
        return answer(body=_BIG)
    time.sleep(draw.uniform(0.001, 0.012))
    if path.startswith(b"/cart") and draw.random() < 0.15:
        return answer(502, b"Bad Gateway", "X-Cf-RouterError: endpoint_failure\r\n")
    return answer(body=_BIG if path.startswith(b"/images") else _MANY[: draw.randint(200, 4000)])


def _customer(paths: list[str], pause: float, number: int) -> Callable[[], None]:
    def run() -> None:
        end, count = time.monotonic() + _SECONDS, 0
        with connection() as one:
            while time.monotonic() < end:
                path = paths[count % len(paths)]
                get(one, f"/{path}/{number}-{count}")
                count += 1
                time.sleep(pause)

    return run


def _refused() -> None:
    for _ in range(4):
        with contextlib.suppress(OSError), connection(5432):
            pass
        time.sleep(1.5)


def capture(directory: Path) -> Path:
    """Traffic with faults, captured at both ends, in one file."""
    faults = [{"port": 8080, "larger": 900, "share": 0.02, "do": "drop"}]
    with Stage(directory, _SEED, faults) as stage:
        stage.serve(web(_reply))
        customers = [
            _customer(["products", "cart"], 0.02, 1), _customer(["products", "login"], 0.05, 2),
            _customer(["images", "products"], 0.2, 3), _customer(["reports"], 0.5, 4),
        ]  # fmt: skip
        stage.ask(*customers, _refused, timeout=30)
    file = directory / "myapp.pcapng"
    named(list(zip(("router/0:eth0", "myapp/0:eth0"), stage.files)), file)
    return file


def photograph(page: Path, to: Path) -> None:
    """Let Chromium make a picture of a page, with few colours.

    Raises:
        SystemExit: A program is missing, or the picture is too large.
    """
    chromium, pngquant = _program("chromium"), _program("pngquant")
    argv = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-lcd-text",
        f"--window-size={_WINDOW[0]},{_WINDOW[1]}", f"--screenshot={to}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    subprocess.run([pngquant, "--force", "--strip", "--output", str(to), "64", str(to)], check=True)
    size = to.stat().st_size
    if size > SIZE_MAX:
        raise SystemExit(f"pictures: {to} has {size} bytes, more than {SIZE_MAX}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"pictures: {name} is not installed: apt-get install chromium pngquant")
    return found


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(prog="bin/pictures", description="Make the pictures in README.rst.")
    parser.add_argument("--table", action="store_true", help="make only table.svg, which needs no root")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the capture and its page here")
    asked = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    TABLE.write_text(table())
    if asked.table:
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = asked.keep or Path(temporary)
        page = directory / "myapp.html"
        file = capture(directory)
        argv = [sys.executable, "-m", "pcapd.ctl", "explain", file.name, "--html", str(page)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(argv, cwd=directory, env=environment, check=True, stdout=subprocess.DEVNULL)
        photograph(page, PAGE)


if __name__ == "__main__":
    main()
