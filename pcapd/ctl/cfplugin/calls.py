"""One call of Go's net/rpc on one connection, as the cf CLI's own client makes it.  No I/O."""

from __future__ import annotations

from typing import Any, List, Optional

from pcapd.ctl.cfplugin.gob import STRING, UINT, Decoder, Encoder, Kind, Struct
from pcapd.errors import PcapdError, RemoteProtocolError

__all__ = ["Call", "CallRefused"]

_SERVICE = "CliRpcCmd"
_REQUEST = Struct("Request", (("ServiceMethod", STRING), ("Seq", UINT)))


class CallRefused(PcapdError):
    """The cf CLI replied with an error, whose text is not repeated because it may contain anything."""


class Call:
    """A call and its reply.

    Args:
        method: The name of the method.
        kind: The type of the argument.
        argument: The argument.

    Attributes:
        request: The bytes to send.
    """

    def __init__(self, method: str, kind: Kind = STRING, argument: Any = "") -> None:
        encoder = Encoder()
        self._method = f"{_SERVICE}.{method}"
        self.request = encoder.encode(_REQUEST, {"ServiceMethod": self._method})
        self.request += encoder.encode(kind, argument)
        self._decoder = Decoder()
        self._values: List[Any] = []

    def receive(self, data: bytes) -> bool:
        """Process bytes of the reply; returns whether it is complete.

        Raises:
            RemoteProtocolError: The bytes are not a reply to this call.
            CallRefused: The reply is an error.
        """
        self._values += self._decoder.feed(data)
        if self._values:
            self._check(self._values[0])
        if len(self._values) > 2:
            raise RemoteProtocolError("the cf CLI sent more than a reply")
        return len(self._values) == 2

    @property
    def reply(self) -> Any:
        """The value of the reply."""
        return self._values[1]

    def _check(self, head: Any) -> None:
        if not isinstance(head, dict) or head.get("ServiceMethod") != self._method or head.get("Seq", 0) != 0:
            raise RemoteProtocolError(f"the cf CLI's reply is not to {self._method}")
        error: Optional[Any] = head.get("Error")
        if error:
            raise CallRefused(f"the cf CLI refused {self._method}")
