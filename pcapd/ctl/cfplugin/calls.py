"""One call of Go's net/rpc on one connection, as the cf CLI's own client does it.  No I/O."""

from __future__ import annotations

from typing import Any, List, Optional

from pcapd.ctl.cfplugin.gob import STRING, UINT, Decoder, Encoder, Kind, Struct
from pcapd.errors import PcapdError, RemoteProtocolError

__all__ = ["Call", "CallRefused"]

_SERVICE = "CliRpcCmd"
_REQUEST = Struct("Request", (("ServiceMethod", STRING), ("Seq", UINT)))


class CallRefused(PcapdError):
    """The cf CLI answered with an error.  Its words may hold anything, so they are not repeated."""


class Call:
    """A call and its reply.

    Args:
        method: Its name.
        kind: Of the argument.
        argument: Sent with it.

    Attributes:
        request: To be sent.
    """

    def __init__(self, method: str, kind: Kind = STRING, argument: Any = "") -> None:
        encoder = Encoder()
        self._method = f"{_SERVICE}.{method}"
        self.request = encoder.encode(_REQUEST, {"ServiceMethod": self._method})
        self.request += encoder.encode(kind, argument)
        self._decoder = Decoder()
        self._values: List[Any] = []

    def receive(self, data: bytes) -> bool:
        """Bytes of the reply; returns whether it is whole.

        Raises:
            RemoteProtocolError: It is no reply to this call.
            CallRefused: It is an error.
        """
        self._values += self._decoder.feed(data)
        if self._values:
            self._check(self._values[0])
        if len(self._values) > 2:
            raise RemoteProtocolError("the cf CLI says more than a reply")
        return len(self._values) == 2

    @property
    def reply(self) -> Any:
        """What came back."""
        return self._values[1]

    def _check(self, head: Any) -> None:
        if not isinstance(head, dict) or head.get("ServiceMethod") != self._method or head.get("Seq", 0) != 0:
            raise RemoteProtocolError(f"the cf CLI does not answer {self._method}")
        error: Optional[Any] = head.get("Error")
        if error:
            raise CallRefused(f"the cf CLI refuses {self._method}")
