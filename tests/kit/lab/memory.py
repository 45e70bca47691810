"""How much memory Python takes for something."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Callable, Iterator

__all__ = ["traced"]


@contextlib.contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Give a function that tells the most bytes that were held at once since the beginning."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
