from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.certificates import Authority
from demo.processes import run
from tests.bosh.release import OPS, Issued


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return Issued.by(authority)


@pytest.fixture(scope="session")
def interpolate(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns a function that applies ops files to a manifest, and then puts variables in, as the BOSH CLI does."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    directory = tmp_path_factory.mktemp("interpolate")
    program = directory / "interpolate"
    run(["go", "build", "-o", str(program), "."], cwd=Path(__file__).parent / "interpolate", timeout=300)

    def apply(manifest: dict[str, Any], *ops: str, **variables: str) -> Any:
        base = directory / "manifest.yml"
        base.write_text(yaml.safe_dump(manifest))
        text = run([str(program), str(base), *(str(OPS / name) for name in ops)]).stdout
        for variable, value in variables.items():
            text = text.replace(f"(({variable}))", value)
        return yaml.safe_load(text)

    return apply
