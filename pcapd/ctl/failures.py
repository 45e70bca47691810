"""What can go wrong at the client's two ends: the api's and the file's.

What the api reports about the request itself is a `pcapd.errors.RequestError`.
"""

from __future__ import annotations

from pcapd.errors import PcapdError

__all__ = ["ConnectionFailed", "ConnectionLost", "LeaveNow", "OutputFailed"]


class ConnectionFailed(PcapdError):
    """The api cannot be reached, or what answers there is no api that we trust."""


class ConnectionLost(PcapdError):
    """The connection to the api broke before the capture's end."""


class OutputFailed(PcapdError):
    """The file or pipe cannot be opened or written.

    Attributes:
        unwritten: Packets of the last write that are not in the file.
    """

    def __init__(self, message: str, hint: str = "", unwritten: int = 0) -> None:
        super().__init__(message, hint)
        self.unwritten = unwritten


class LeaveNow(BaseException):
    """The second Ctrl-C.  Like KeyboardInterrupt, it must not be caught on the way."""
