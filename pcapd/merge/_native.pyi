from typing import Optional, Sequence

from typing_extensions import Buffer

from pcapd.merge._types import Merged, Source
from pcapd.savefile.form import Form

class Matcher:
    def __init__(self, first: int, window_us: int, packets: int) -> None: ...
    @property
    def forgotten(self) -> int: ...
    def see(self, place: int, us: int, digest: int) -> tuple[int, bool]: ...
    def number(self, rows: Buffer) -> bytes: ...

def merge(
    sources: Sequence[Source],
    until_us: int,
    last_us: int,
    form: Form,
    max_packets: int,
    max_bytes: int,
    matcher: Optional[Matcher] = None,
    dedupe: bool = False,
) -> Merged: ...
