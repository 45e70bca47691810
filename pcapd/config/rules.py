"""The values of an api's configuration about what may be captured and who records it.

They are part of `pcapd.config.schema`, from which the rest of the daemon imports them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional, Tuple

__all__ = [
    "AuditConfig",
    "CloudFoundryClient",
    "LabelPlace",
    "OptInConfig",
    "PolicyConfig",
    "Readers",
    "RecordingsConfig",
    "SyslogConfig",
]

#: What in Cloud Foundry can have the label of an opt-in.
LabelPlace = Literal["app", "space", "organization"]
#: Who may read a recording: its owner, or whoever may capture its targets.
Readers = Literal["owner", "permitted"]


@dataclass(frozen=True)
class CloudFoundryClient:
    """The api's own UAA client, with the authority ``cloud_controller.global_auditor``.

    With it, apps are followed when their user's token has expired, and the user's role is checked
    while a capture runs.

    Attributes:
        id: The client's id.
        secret: Its secret; None if it is in a file.
        secret_file: File whose first line is the secret.
    """

    id: str
    secret: Optional[str] = field(default=None, repr=False)
    secret_file: Optional[Path] = None


@dataclass(frozen=True)
class OptInConfig:
    """The apps that may be captured at all: those with a label, and those in a list.

    Attributes:
        label: Key and value of a label of Cloud Controller; None for no label.
        label_on: Where the label counts: on the app, its space, or its organization.
        apps: GUIDs of apps.
        spaces: GUIDs of spaces, with all their apps.
        organizations: GUIDs of organizations, with all their apps.
    """

    label: Optional[Tuple[str, str]] = None
    label_on: Tuple[LabelPlace, ...] = ("app", "space", "organization")
    apps: Tuple[str, ...] = ()
    spaces: Tuple[str, ...] = ()
    organizations: Tuple[str, ...] = ()


@dataclass(frozen=True)
class PolicyConfig:
    """Rules that apply to every user.

    Attributes:
        headers_only: Whether only the headers of packets are captured.
        devices: Interfaces that may be captured, the first by default; None for all.
        exclude: BPF filters; packets that match one of them are not captured.
        require_reason: Whether each request must contain a reason, for the audit record.
    """

    headers_only: bool = False
    devices: Optional[Tuple[str, ...]] = None
    exclude: Tuple[str, ...] = ()
    require_reason: bool = False


@dataclass(frozen=True)
class SyslogConfig:
    """Syslog for audit records, at a Unix socket or over TLS; exactly one of ``socket`` and ``host`` is set.

    Attributes:
        socket: Path of a Unix datagram socket such as ``/dev/log``.
        host: Name or address of a server for syslog over TLS (RFC 5425).
        ca: CAs of the server's certificate; None for the system's.
        server_name: Name that the certificate must have; None for `host`.
        certificate: Our certificate for the server, with `private_key`; None for none.
    """

    socket: Optional[Path] = None
    host: Optional[str] = None
    port: int = 6514
    ca: Optional[Path] = None
    server_name: Optional[str] = None
    certificate: Optional[Path] = None
    private_key: Optional[Path] = None


@dataclass(frozen=True)
class AuditConfig:
    """Where audit records go instead of the log; exactly one of the two is set.

    Attributes:
        file: Path of a file, in which each line is a JSON object.
        syslog: A syslog receiver.
    """

    file: Optional[Path] = None
    syslog: Optional[SyslogConfig] = None


@dataclass(frozen=True)
class RecordingsConfig:
    """Captures that go on without a client.

    Attributes:
        store: URL of the store of segments.
        credentials_file: File with the object store's settings; None for none.
        per_user: Recordings of one user that run at the same time.
        max_duration: Longest duration of a recording, in seconds.
        max_bytes: Bytes of all recordings together.
        reserve: Bytes of the store's disk that stay free.
        keep: Seconds after the end of a recording until it is deleted.
        readers: Who may read a recording, besides operators.
    """

    store: str
    credentials_file: Optional[Path] = None
    per_user: int = 3
    max_duration: float = 7 * 86400.0
    max_bytes: int = 50 * 10**9
    reserve: int = 2 * 10**9
    keep: float = 7 * 86400.0
    readers: Readers = "owner"
