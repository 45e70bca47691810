"""What a configuration says, as frozen values with their defaults.

One `AgentConfig` or `ApiConfig` per file; `pcapd.config.parse` makes them and
has checked every rule.  Times are seconds, sizes bytes.  Files are paths, made
absolute by the configuration file's directory where they were relative.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Literal, Mapping, Optional, Tuple, Union

from pcapd.limits import AGENT_CAPTURES, AGENT_CONNECT_TIMEOUT, DRAIN_TIMEOUT, RING_BYTES

__all__ = [
    "ANY_TARGET",
    "AgentConfig",
    "AgentListenConfig",
    "AgentsConfig",
    "ApiConfig",
    "ApiLimits",
    "AuditConfig",
    "BoshConfig",
    "CaptureConfig",
    "CliConfig",
    "ClientTLS",
    "CloudFoundryConfig",
    "ContainerAccess",
    "ContainersConfig",
    "ListenConfig",
    "LogLevel",
    "MetricsConfig",
    "Permission",
    "ServerTLS",
    "StaticConfig",
    "StaticTarget",
    "StaticUser",
]

LogLevel = Literal["debug", "info", "warn", "error"]
#: ``namespace``: enter the container's network namespace.  ``host-veth``:
#: capture its eth0 from the cell's side, which needs CAP_NET_RAW alone.
ContainerAccess = Literal["namespace", "host-veth"]
#: What Cloud Controller can grant a user on an app.
Permission = Literal["read_sensitive_data", "read_basic_data"]

#: In a static user's targets: all of them, also those added later.
ANY_TARGET: Final = "*"

#: TCP port of agents, unless configured.
_AGENT_PORT: Final = 9494


@dataclass(frozen=True)
class ServerTLS:
    """How we show who we are to those who connect, and whom we let in.

    Attributes:
        client_cas: Who must have issued a client's certificate; None asks for none.
        allowed_clients: Lower-case DNS names, one of which a client's certificate
            must carry.  Only agents have it; never empty there.
    """

    certificate: Path
    private_key: Path
    client_cas: Optional[Path] = None
    allowed_clients: Tuple[str, ...] = ()


@dataclass(frozen=True)
class ClientTLS:
    """How the api shows who it is to agents, and how it knows them.

    Attributes:
        ca: Who must have issued an agent's certificate.
        server_name: Lower-case DNS name that an agent's certificate must carry:
            agents are dialled by address.
    """

    certificate: Path
    private_key: Path
    ca: Path
    server_name: str


@dataclass(frozen=True)
class ListenConfig:
    """Where to listen; port 0 takes any free port."""

    host: str = "0.0.0.0"  # noqa: S104  a server's usual default; configurable
    port: int = 8080
    tls: Optional[ServerTLS] = None


@dataclass(frozen=True, kw_only=True)
class AgentListenConfig(ListenConfig):
    """Where an agent listens: always with TLS, always with ``client_cas`` and ``allowed_clients``."""

    tls: ServerTLS
    port: int = _AGENT_PORT


@dataclass(frozen=True)
class CaptureConfig:
    """How an agent captures.

    Attributes:
        default_device: Interface of a request that names none.
        ring_bytes: Bytes of the kernel's ring per capture source.
        max_captures: Captures at once.
        promiscuous: Whether to also see packets that are for other machines.
    """

    default_device: str = "eth0"
    ring_bytes: int = RING_BYTES
    max_captures: int = AGENT_CAPTURES
    promiscuous: bool = True


@dataclass(frozen=True)
class ContainersConfig:
    """Where an agent finds the containers of its Diego cell.

    Attributes:
        store: Container metadata that silk's CNI plugin writes.
        runc: The runc command.
        runc_root: State directory of the containers that runc knows.
        netns_dir: Bind-mounted network namespaces by handle; preferred where present.
    """

    access: ContainerAccess = "namespace"
    store: Path = Path("/var/vcap/data/container-metadata/store.json")
    runc: Path = Path("/var/vcap/packages/runc/bin/runc")
    runc_root: Path = Path("/run/containerd/runc/garden")
    netns_dir: Path = Path("/var/vcap/data/garden-cni/container-netns")


@dataclass(frozen=True)
class AgentConfig:
    """Everything that an agent is told.

    Attributes:
        containers: None where the machine runs no containers.
        namespaces: Absolute paths of the network namespaces that may be captured, by name.
        run_as: User to become after the start; None stays who we are.
        warnings: What works but should not stay so, one sentence each.
    """

    id: str
    listen: AgentListenConfig
    log_level: LogLevel = "info"
    capture: CaptureConfig = CaptureConfig()
    containers: Optional[ContainersConfig] = None
    namespaces: Mapping[str, Path] = field(default_factory=dict)
    run_as: Optional[str] = None
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentsConfig:
    """How the api reaches agents.

    Attributes:
        connect_timeout: Seconds for an agent to accept the connection.
    """

    tls: ClientTLS
    port: int = _AGENT_PORT
    connect_timeout: float = AGENT_CONNECT_TIMEOUT


@dataclass(frozen=True)
class ApiLimits:
    """What one api serves at most.

    Attributes:
        concurrent_captures: Captures at once.
        per_user: Captures at once of one user.
        max_duration: Seconds of one capture.
        max_bytes: Bytes of packets of one capture.
        max_targets: Instances in one capture.
    """

    concurrent_captures: int = 50
    per_user: int = 5
    max_duration: float = 3600.0
    max_bytes: int = 10 * 1000**3
    max_targets: int = 1000


@dataclass(frozen=True)
class CloudFoundryConfig:
    """The Cloud Controller that decides about apps.

    Attributes:
        api: Its https URL, without a final slash.
        ca: Who must have issued its certificate; None trusts the system's authorities.
        required_permission: What it must grant a user on an app.
        headers_only_permission: What is enough for headers only; None: nothing less.
    """

    api: str
    ca: Optional[Path] = None
    required_permission: Permission = "read_sensitive_data"
    headers_only_permission: Optional[Permission] = None


@dataclass(frozen=True)
class BoshConfig:
    """The BOSH director that decides about VMs.

    Attributes:
        director: Its https URL, without a final slash.
        ca: Who must have issued its certificate; None trusts the system's authorities.
        agent_port: TCP port of the agents on its VMs.
        token_scope: UAA scope that allows a capture; None asks for an admin of the deployment.
    """

    director: str
    ca: Optional[Path] = None
    agent_port: int = _AGENT_PORT
    token_scope: Optional[str] = None


@dataclass(frozen=True)
class StaticUser:
    """Someone who captures with a token of the configuration's.

    Attributes:
        token_sha256: SHA-256 of the token, lower-case hexadecimal.
        targets: Names of the targets they may capture; `ANY_TARGET` stands for all.
        headers_only: They get nothing of a packet but its headers.
    """

    token_sha256: str = field(repr=False)
    targets: Tuple[str, ...]
    headers_only: bool = False

    def may_capture(self, target: str) -> bool:
        """Whether they may capture the target of that name."""
        return ANY_TARGET in self.targets or target in self.targets


@dataclass(frozen=True)
class StaticTarget:
    """A machine that can be captured by name.

    Attributes:
        host: IP address of its agent.
        namespace: One of the agent's ``namespaces``; None is the machine itself.
    """

    host: str
    port: int
    namespace: Optional[str] = None


@dataclass(frozen=True)
class StaticConfig:
    """Users and targets by name."""

    users: Mapping[str, StaticUser]
    targets: Mapping[str, StaticTarget]


@dataclass(frozen=True)
class PolicyConfig:
    """What nobody may capture, whoever they are.

    Attributes:
        headers_only: Nobody gets anything of a packet but its headers.
        devices: Interfaces that may be captured, the first by default; None allows any.
        exclude: BPF filters; what passes one of them is not captured.
    """

    headers_only: bool = False
    devices: Optional[Tuple[str, ...]] = None
    exclude: Tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricsConfig:
    """Where Prometheus may read; a listener of its own."""

    host: str = "127.0.0.1"
    port: int = 9102


@dataclass(frozen=True)
class AuditConfig:
    """Where audit records go instead of to the log.

    Attributes:
        file: Gets one JSON object per line.
    """

    file: Path


@dataclass(frozen=True)
class CliConfig:
    """The client for download, under ``/cli/``.

    Attributes:
        directory: Whose files anyone may fetch; those below its directories are not part of it.
    """

    directory: Path


@dataclass(frozen=True)
class ApiConfig:
    """Everything that an api is told; at least one of the three resolvers is there.

    Attributes:
        drain_timeout: Seconds for running captures to end, and for clients to read it, when the api stops.
        trusted_proxies: Whose headers for the client's address and the request's id are used.
        warnings: What works but should not stay so, one sentence each.
    """

    id: str
    agents: AgentsConfig
    log_level: LogLevel = "info"
    listen: ListenConfig = ListenConfig()
    limits: ApiLimits = ApiLimits()
    drain_timeout: float = DRAIN_TIMEOUT
    trusted_proxies: Tuple[Union[IPv4Network, IPv6Network], ...] = ()
    cloud_foundry: Optional[CloudFoundryConfig] = None
    bosh: Optional[BoshConfig] = None
    static: Optional[StaticConfig] = None
    policy: PolicyConfig = PolicyConfig()
    metrics: Optional[MetricsConfig] = None
    cli: Optional[CliConfig] = None
    audit: Optional[AuditConfig] = None
    warnings: Tuple[str, ...] = ()

    @property
    def agent_ports(self) -> Tuple[int, ...]:
        """TCP ports of all agents that this api may connect to."""
        ports = {self.agents.port} if self.cloud_foundry else set()
        ports |= {self.bosh.agent_port} if self.bosh else set()
        ports |= {target.port for target in self.static.targets.values()} if self.static else set()
        return tuple(sorted(ports))
