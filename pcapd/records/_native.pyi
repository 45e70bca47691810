from typing import Sequence

from typing_extensions import Buffer

from pcapd.records._reference import Source
from pcapd.records._types import Busy, Checked, Form, Gap, Merged, Rendered

def keep_memory() -> None: ...
def pack(packets: Buffer, meta: Buffer, snaplen: int, limit: int, headers_of: int = -1) -> list[bytes]: ...
def busiest(packets: Buffer, meta: Buffer, link_type: int) -> tuple[int, int, list[Busy]]: ...
def check(records: Buffer, max_captured: int) -> Checked: ...
def render(
    records: Buffer,
    interface: int,
    form: Form,
    max_packets: int,
    max_bytes: int,
    gaps: Sequence[Gap] = (),
) -> Rendered: ...
def merge(
    sources: Sequence[Source],
    until_us: int,
    last_us: int,
    form: Form,
    max_packets: int,
    max_bytes: int,
) -> Merged: ...
