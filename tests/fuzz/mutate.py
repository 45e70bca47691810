"""Mutations of saved inputs, the same ones for the same seed.

For runs of seconds and under a sanitizer, where atheris cannot be; it is atheris
(``bin/fuzz``) that finds new ways through the code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fuzz.targets import CORPUS

__all__ = ["SIZE_MAX", "mutations", "seeds_of"]

#: bytes of an input.
SIZE_MAX = 4096
#: What parsers trip over, as bytes of numbers and of text.
_TOKENS = (
    *(number.to_bytes(4, order) for number in (0, 1, 16, 2**31, 2**32 - 1) for order in ("little", "big")),
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b"{}", b"[]", b'""', b'"\\ud800"', b"\\u0000", b"9" * 400),
    *(b"[" * 300, b'{"a":' * 300, b"\x1b]0;x\x07", b"\r\n", "\u202e".encode(), b"\xff\xfe", b"%00", b"&*"),
)


def seeds_of(name: str, corpus: Path = CORPUS) -> dict[str, bytes]:
    """The saved inputs of a target, by the names of their files."""
    return {path.name: path.read_bytes() for path in sorted((corpus / name).iterdir())}


def mutations(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Changed inputs without end.

    Args:
        seeds: What they are made of.
        seed: Of the random numbers.
    """
    numbers = random.Random(seed)
    while True:
        data = bytearray(numbers.choice(seeds))
        for _ in range(numbers.choice((1, 1, 2, 3, 8))):
            _change(data, numbers, seeds)
        yield bytes(data[:SIZE_MAX])


def _change(data: bytearray, numbers: random.Random, seeds: Sequence[bytes]) -> None:
    begin = numbers.randint(0, len(data))
    end = min(len(data), begin + numbers.choice((0, 1, 2, 4, 8, 64)))
    how = numbers.randrange(6)
    if how == 0 and data:
        data[begin % len(data)] ^= 1 << numbers.randrange(8)
    elif how == 1:
        data[begin:end] = numbers.randbytes(end - begin)
    elif how == 2:
        del data[begin:end]
    elif how == 3:
        data[begin:begin] = data[begin:end] * numbers.choice((1, 2, 40))
    elif how == 4:
        data[begin:end] = numbers.choice(_TOKENS)
    else:
        other = numbers.choice(seeds)
        at = numbers.randint(0, len(other))
        data[begin:] = other[at:]
