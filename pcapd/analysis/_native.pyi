from typing import Sequence

from typing_extensions import Buffer

from pcapd.analysis._reference import Flow

class FlowTable:
    packets: int
    others: int
    beyond: int
    forgotten: int
    def __init__(self, flows: int, pairs: int, delays: int, waiting: int, window_us: int) -> None: ...
    def add(self, rows: Buffer) -> None: ...
    def flows(self) -> list[Flow]: ...

def merge_rows(chunks: Sequence[Buffer]) -> tuple[bytes, list[int]]: ...
