from __future__ import annotations

import pytest

from tests.bosh.release import Issued
from tests.lab.certificates import Authority


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return Issued.by(authority)
