"""Every exception that pcapd raises on purpose.

::

    PcapdError
    ├── ConfigError              a configuration file; holds all its problems
    ├── ProtocolError
    │   ├── LocalProtocolError   we broke the wire protocol: a bug of ours
    │   └── RemoteProtocolError  the peer broke it: its bytes are not trusted further
    │       └── RecordError      a batch whose records lie about their lengths
    ├── PeerIdentityError        a certificate that is valid but is not who may speak here
    └── RequestError             a request that cannot be served; each has a wire code and an HTTP status
        ├── BadRequest           400
        │   ├── BadFilter            a BPF filter that does not compile, or may not be used
        │   ├── NoSuchInterface      an interface that the target does not have
        │   └── MixedLinkTypes       classic pcap asked for interfaces of several link types
        ├── Unauthenticated      401
        ├── Forbidden            403
        ├── TargetNotFound       404
        ├── MethodNotAllowed     405
        ├── LimitReached         429
        ├── CaptureFailed        502
        │   ├── CapturePermission    the agent lacks the privileges
        │   ├── NamespaceGone        the network namespace is not there any more
        │   └── AgentUnavailable     no agent at that address, or not one that we may trust
        ├── ClientLeft           499: the client did not wait for the answer; only recorded
        ├── ResolverUnavailable  503: whoever decides about the request cannot be asked
        ├── AuditUnavailable     503: the capture could not be recorded
        └── Draining             503

A message is one sentence for the person who made the request; ``hint`` says
what to do about it.  Neither ever holds a token or packet data.
"""

from __future__ import annotations

from typing import Optional, Sequence


class PcapdError(Exception):
    """Base of all of them.

    Args:
        message: One sentence, without a final stop.
        hint: The remedy, where there is one.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(PcapdError):
    """A configuration that cannot be used; all its problems at once.

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
    """The wire protocol (docs/wire-protocol.rst) was broken."""


class LocalProtocolError(ProtocolError):
    """By us: something was sent in a state that does not allow it."""


class RemoteProtocolError(ProtocolError):
    """By the peer; the connection must be dropped."""


class RecordError(RemoteProtocolError):
    """A batch of packet records is not what its lengths say."""


class PeerIdentityError(PcapdError):
    """The peer's certificate does not carry a name that may speak here."""


class RequestError(PcapdError):
    """A request that cannot be served.

    Attributes:
        code: Name of the cause on the wire and in HTTP error bodies.
        status: The HTTP status that says the same.
        user: The user whose request it was, where that is known; for the audit log.
    """

    code = "error"
    status = 500
    user: Optional[str] = None


class BadRequest(RequestError):
    """The request says something that cannot be."""

    code = "bad_request"
    status = 400


class BadFilter(BadRequest):
    """The BPF filter does not compile, or may not be used."""

    code = "bad_filter"


class NoSuchInterface(BadRequest):
    """The target has no interface of that name."""

    code = "no_such_interface"


class MixedLinkTypes(BadRequest):
    """A classic pcap file has one link type; the request needs several."""

    code = "mixed_link_types"


class Unauthenticated(RequestError):
    """No token, or not one that we know."""

    code = "unauthenticated"
    status = 401


class Forbidden(RequestError):
    """We know who asks, and they may not."""

    code = "forbidden"
    status = 403


class TargetNotFound(RequestError):
    """There is no target of that name."""

    code = "target_not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The page does not support this HTTP method.

    Attributes:
        allowed: The methods that it answers.
    """

    code = "method_not_allowed"
    status = 405
    allowed: Sequence[str] = ()


class LimitReached(RequestError):
    """A limit of the api, an agent or an authority stands in the way.

    Attributes:
        retry_after: Seconds until it makes sense to try again, where that is known.
    """

    code = "limit_reached"
    status = 429
    retry_after: Optional[int] = None


class CaptureFailed(RequestError):
    """The capture could not be opened, or broke."""

    code = "capture_failed"
    status = 502


class CapturePermission(CaptureFailed):
    """The agent lacks the privileges to capture."""

    code = "capture_permission"


class NamespaceGone(CaptureFailed):
    """The network namespace is not there, or not any more."""

    code = "namespace_gone"


class AgentUnavailable(CaptureFailed):
    """No agent answers at the address, or not one that we may trust."""

    code = "agent_unavailable"


class ClientLeft(RequestError):
    """The client left before its capture started."""

    code = "client_left"
    status = 499  # not a standard; nginx logs the same case so


class AuditUnavailable(RequestError):
    """The audit record of a capture cannot be written, so there is no capture."""

    code = "audit_unavailable"
    status = 503


class ResolverUnavailable(RequestError):
    """Who decides about the request (Cloud Controller, a director) cannot be asked, or talks nonsense."""

    code = "resolver_unavailable"
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

    An unknown code (a newer peer's) becomes a plain `RequestError`.
    """
    return _BY_CODE.get(code, RequestError)(message, hint or "")
