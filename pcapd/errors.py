"""Every exception that pcapd raises on purpose.

::

    PcapdError
    ├── ConfigError              a configuration file; holds all its problems
    ├── ProtocolError
    │   ├── LocalProtocolError   we violated the wire protocol: a bug in pcapd
    │   └── RemoteProtocolError  the peer violated it: the connection is dropped
    │       └── RecordError      a batch whose records have wrong lengths
    ├── PeerIdentityError        a valid certificate without a name that is allowed here
    └── RequestError             a request that cannot be fulfilled; each has a wire code and an HTTP status
        ├── BadRequest           400
        │   ├── BadFilter            a BPF filter that does not compile, or is not allowed
        │   ├── NoSuchInterface      an interface that the target does not have
        │   └── MixedLinkTypes       classic pcap requested for several link types
        ├── Unauthenticated      401
        ├── Forbidden            403
        ├── TargetNotFound       404
        ├── MethodNotAllowed     405
        ├── Conflict             409
        ├── NoRoom               507: the store of recordings is full
        ├── LimitReached         429
        ├── CaptureFailed        502
        │   ├── CapturePermission    the agent lacks the privileges
        │   ├── NamespaceGone        the network namespace no longer exists
        │   └── AgentUnavailable     no agent answers at that address, or it is not trusted
        ├── ClientLeft           499: the client left before the answer; only for the audit log
        ├── ResolverUnavailable  503: the server that authorizes the request is not available
        ├── AuditUnavailable     503: the capture could not be recorded
        ├── StateUnavailable     503: the database of the apis does not work
        └── Draining             503

A message is one sentence for the user who made the request; ``hint`` suggests a
remedy.  Neither ever contains a token or packet data.
"""

from __future__ import annotations

from typing import Optional, Sequence


class PcapdError(Exception):
    """Base class of all these exceptions.

    Args:
        message: One sentence, without a final full stop.
        hint: A remedy; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(PcapdError):
    """An invalid configuration, with all its problems at once.

    Args:
        source: The file's path as given; or, before `pcapd.preflight.of_file` adds the path, the
            key whose value or files cannot be used, such as ``run_as``.
        problems: One sentence per problem, which names the key's path unless `source` does.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(f"{source}: " + "; ".join(problems))
        self.source = source
        self.problems = tuple(problems)


class ProtocolError(PcapdError):
    """The wire protocol (docs/wire-protocol.rst) was violated."""


class LocalProtocolError(ProtocolError):
    """A violation by us: something was sent in a state that does not allow it."""


class RemoteProtocolError(ProtocolError):
    """A violation by the peer; the connection must be dropped."""


class RecordError(RemoteProtocolError):
    """The lengths in a batch of packet records are inconsistent."""


class PeerIdentityError(PcapdError):
    """The peer's certificate contains no name that is allowed here."""


class RequestError(PcapdError):
    """A request that cannot be fulfilled.

    Attributes:
        code: Name of the error on the wire and in HTTP error bodies.
        status: The corresponding HTTP status.
        user: The user who made the request, if known; for the audit log.
    """

    code = "error"
    status = 500
    user: Optional[str] = None


class BadRequest(RequestError):
    """The request is invalid."""

    code = "bad_request"
    status = 400


class BadFilter(BadRequest):
    """The BPF filter does not compile, or is not allowed."""

    code = "bad_filter"


class NoSuchInterface(BadRequest):
    """The target has no interface of that name."""

    code = "no_such_interface"


class MixedLinkTypes(BadRequest):
    """A classic pcap file has one link type; the request needs several."""

    code = "mixed_link_types"


class Unauthenticated(RequestError):
    """There is no token, or it is not accepted."""

    code = "unauthenticated"
    status = 401


class Forbidden(RequestError):
    """The user is known, but not allowed to do this."""

    code = "forbidden"
    status = 403


class TargetNotFound(RequestError):
    """The target does not exist."""

    code = "target_not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The page does not support this HTTP method.

    Attributes:
        allowed: The methods that it supports.
    """

    code = "method_not_allowed"
    status = 405
    allowed: Sequence[str] = ()


class LimitReached(RequestError):
    """A limit of the api, of an agent or of another server has been reached.

    Attributes:
        retry_after: Seconds after which to try again, if known.
    """

    code = "limit_reached"
    status = 429
    retry_after: Optional[int] = None


class CaptureFailed(RequestError):
    """The capture could not be opened, or failed."""

    code = "capture_failed"
    status = 502


class CapturePermission(CaptureFailed):
    """The agent lacks the privileges to capture."""

    code = "capture_permission"


class NamespaceGone(CaptureFailed):
    """The network namespace does not exist, or no longer exists."""

    code = "namespace_gone"


class AgentUnavailable(CaptureFailed):
    """No agent answers at the address, or it is not trusted."""

    code = "agent_unavailable"


class ClientLeft(RequestError):
    """The client left before its capture started."""

    code = "client_left"
    status = 499  # not standard; nginx logs this case with the same status


class AuditUnavailable(RequestError):
    """The audit record of a capture cannot be written, so the capture is refused."""

    code = "audit_unavailable"
    status = 503


class ResolverUnavailable(RequestError):
    """The server that authorizes the request (Cloud Controller, a director) is unavailable or unusable."""

    code = "resolver_unavailable"
    status = 503


class Conflict(RequestError):
    """The object is not in a state in which this is possible."""

    code = "conflict"
    status = 409


class NoRoom(RequestError):
    """There is no room to store this."""

    code = "no_room"
    status = 507


class StateUnavailable(RequestError):
    """The database that api processes share does not work."""

    code = "state_unavailable"
    status = 503


class RecordingsUnavailable(RequestError):
    """The store of recordings does not work."""

    code = "recordings_unavailable"
    status = 503


class Draining(RequestError):
    """The daemon is shutting down."""

    code = "draining"
    status = 503


def _leaves(kind: type[RequestError]) -> list[type[RequestError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


_BY_CODE = {kind.code: kind for kind in _leaves(RequestError)}


def request_error(code: str, message: str, hint: Optional[str] = None) -> RequestError:
    """Rebuild the error that a peer reported by its wire code.

    An unknown code, from a newer peer, becomes a plain `RequestError`.
    """
    return _BY_CODE.get(code, RequestError)(message, hint or "")
