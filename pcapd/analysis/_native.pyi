from typing import Sequence

from typing_extensions import Buffer

from pcapd.analysis._conversations import Closed, Lost, Payload
from pcapd.analysis._reference import Flow

class FlowTable:
    packets: int
    others: int
    beyond: int
    forgotten: int
    def __init__(self, flows: int, pairs: int, delays: int, waiting: int, window_us: int) -> None: ...
    def add(self, rows: Buffer) -> None: ...
    def flows(self) -> list[Flow]: ...

class ConversationTable:
    packets: int
    others: int
    beyond: int
    evicted: int
    forgotten: int
    def __init__(
        self,
        conversations: int,
        waiting: int,
        window_us: int,
        idle_us: int,
        closed: Closed,
        payload: Payload,
        lost: Lost,
    ) -> None: ...
    def open_place(self, file: int) -> int: ...
    def places(self) -> list[tuple[int, int, int]]: ...
    def clocks(self) -> list[tuple[int, int, list[tuple[int, int]], list[tuple[int, int]]]]: ...
    def add(self, rows: Buffer, parts: Sequence[Buffer]) -> None: ...
    def close(self) -> None: ...

def merge_rows(chunks: Sequence[Buffer]) -> tuple[bytes, list[int]]: ...
