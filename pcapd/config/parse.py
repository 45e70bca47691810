"""Makes an `AgentConfig` or `ApiConfig` of the values of a YAML file.  Pure.

There is one function for each section of the file.  All problems are found in one pass.
``parse_*`` raise them; ``survey_*`` return them to `pcapd.config.load`, which also checks
the files.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, Final, Generic, Mapping, Optional, Tuple, TypeVar, get_args

from pcapd.config import checks
from pcapd.config.parse_policy import audit, client, opt_in, policy
from pcapd.config.parse_recordings import recordings, state
from pcapd.config.parse_static import static
from pcapd.config.schema import (
    AgentConfig,
    AgentListenConfig,
    AgentMetricsConfig,
    AgentsConfig,
    ApiConfig,
    ApiLimits,
    BoshConfig,
    CaptureConfig,
    CliConfig,
    ClientTLS,
    CloudFoundryConfig,
    ContainerAccess,
    ContainersConfig,
    ListenConfig,
    LogLevel,
    MetricsConfig,
    Permission,
    Privileges,
    ProbeConfig,
    ServerTLS,
)
from pcapd.config.section import CaFile, Directory, KeyPair, Report, Section
from pcapd.errors import ConfigError
from pcapd.limits import (
    CAPTURE_BYTES_MAX,
    CAPTURES_MAX,
    PROBED_AGENTS_MAX,
    RING_BYTES_RANGE,
    SOURCES_MAX,
    WORKERS_MAX,
)

__all__ = ["Survey", "parse_agent", "parse_api", "survey_agent", "survey_api"]

C = TypeVar("C", AgentConfig, ApiConfig)
F = TypeVar("F", bound=Optional[Path])

_ANYONE: Final = "without it anyone who can reach the port could start captures"
_ANY_CERTIFICATE: Final = "without it any certificate of client_cas could start captures"
_RESOLVERS: Final = ("cloud_foundry", "bosh", "static")


_log_level: checks.Check[LogLevel] = checks.one_of(get_args(LogLevel))
_access: checks.Check[ContainerAccess] = checks.one_of(get_args(ContainerAccess))
_privileges: checks.Check[Privileges] = checks.one_of(get_args(Privileges))
_captures = checks.whole_number(1, CAPTURES_MAX)
_ring = checks.size_between(*RING_BYTES_RANGE)
_capture_size = checks.size_between(1, CAPTURE_BYTES_MAX)
_permission: checks.Check[Permission] = checks.one_of(get_args(Permission))


@dataclass(frozen=True)
class Survey(Generic[C]):
    """A parsed configuration with its problems and warnings.

    Use the configuration only from `result`, because values with problems are replaced by
    stand-ins.
    """

    config: C
    report: Report

    def result(self, source: str) -> C:
        """Return the configuration with its warnings.

        Raises:
            ConfigError: The configuration has problems.
        """
        if self.report.problems:
            raise ConfigError(source, self.report.problems)
        return replace(self.config, warnings=tuple(self.report.warnings))


def parse_agent(
    values: Mapping[object, object],
    *,
    host_name: str,
    directory: Path = Path(),
    source: str = "configuration",
) -> AgentConfig:
    """Make an agent's configuration of the values of its file.

    Args:
        values: The values, as from `yaml.safe_load`.
        host_name: This machine's host name, which is the default id.
        directory: The directory to which relative paths are relative.
        source: The file's path, for messages.

    Raises:
        ConfigError: All problems of the values.
    """
    return survey_agent(values, host_name, directory).result(source)


def parse_api(
    values: Mapping[object, object],
    *,
    host_name: str,
    directory: Path = Path(),
    source: str = "configuration",
) -> ApiConfig:
    """Make an api's configuration of the values of its file; like `parse_agent`."""
    return survey_api(values, host_name, directory).result(source)


def survey_agent(values: Mapping[object, object], host_name: str, directory: Path) -> Survey[AgentConfig]:
    """Like `parse_agent`, but return the problems, with the files still to be checked."""
    section = Section(Report(), directory, values)
    config = AgentConfig(
        id=section.optional("id", checks.identity, host_name),
        log_level=section.optional("log_level", _log_level, AgentConfig.log_level),
        listen=section.default_section("listen", _agent_listen),
        capture=section.default_section("capture", _capture),
        containers=section.optional_section("containers", _containers),
        namespaces=section.optional_section("namespaces", _namespaces) or {},
        run_as=section.optional("run_as", checks.user_name, None),
        privileges=section.optional("privileges", _privileges, AgentConfig.privileges),
        metrics=section.optional_section("metrics", _agent_metrics),
    )
    if config.privileges == "none":
        if config.run_as is not None:
            section.problem("run_as", "needs privileges: prctl; with none, start the agent as that user")
        if config.containers and config.containers.access == "namespace":
            section.problem(
                "containers.access", "namespace needs privileges: prctl; with none, use host-veth"
            )
    section.finish()
    return Survey(config, section.report)


def survey_api(values: Mapping[object, object], host_name: str, directory: Path) -> Survey[ApiConfig]:
    """Like `parse_api`, but return the problems, with the files still to be checked."""
    section = Section(Report(), directory, values)
    agents = section.required_section("agents", _agents)
    agent_port = agents.port if agents else AgentsConfig.port
    workers = section.optional("workers", checks.whole_number(1, WORKERS_MAX), 1) or 1  # not valid: 1
    config = ApiConfig(
        id=section.optional("id", checks.identity, host_name),
        log_level=section.optional("log_level", _log_level, ApiConfig.log_level),
        listen=section.default_section("listen", _api_listen),
        agents=agents,
        limits=section.default_section("limits", _limits),
        drain_timeout=section.optional("drain_timeout", checks.duration, ApiConfig.drain_timeout),
        trusted_proxies=section.optional_items("trusted_proxies", checks.network),
        cloud_foundry=section.optional_section("cloud_foundry", _cloud_foundry),
        bosh=section.optional_section("bosh", lambda section: _bosh(section, agent_port)),
        static=section.optional_section("static", lambda section: static(section, agent_port)),
        policy=section.default_section("policy", policy),
        operators=section.optional_items("operators", checks.operator),
        metrics=section.optional_section("metrics", _metrics),
        probe=section.default_section("probe", _probe),
        cli=section.optional_section("cli", _cli),
        audit=section.optional_section("audit", audit),
        workers=workers,
        state=state(section, needed=workers > 1),
        recordings=section.optional_section("recordings", recordings),
    )
    if workers > 1 and config.listen and config.listen.port == 0:
        section.problem("workers", "needs a listen.port other than 0, because all of them listen on it")
    for operator in config.operators:
        resolver, _, name = operator.partition("/")
        if not section.has(resolver):
            section.problem("operators", f"{operator} needs the section {resolver}")
        elif resolver == "static" and config.static and name not in (config.static.users or {}):
            section.problem("operators", f"there is no user {name} in static.users")
    for network in config.trusted_proxies:
        if network.prefixlen == 0:
            section.warning(
                "trusted_proxies", f"{network} includes every address: any client could claim any address"
            )
    section.finish()
    if not any(section.has(resolver) for resolver in _RESOLVERS):
        section.problem(", ".join(_RESOLVERS), "at least one is required, otherwise nothing can be captured")
    return Survey(config, section.report)


# --- agent -------------------------------------------------------------------


def _agent_listen(section: Section) -> AgentListenConfig:
    return AgentListenConfig(
        host=section.optional("host", checks.address, AgentListenConfig.host),
        port=section.optional("port", checks.listening_port, AgentListenConfig.port),
        tls=section.required_section("tls", _agent_tls, _ANYONE),
    )


def _agent_tls(section: Section) -> ServerTLS:
    certificate, private_key = _key_pair(section)
    return ServerTLS(
        certificate=certificate,
        private_key=private_key,
        client_cas=_ca_file(section, "client_cas", section.required("client_cas", _file(section), _ANYONE)),
        allowed_clients=section.items("allowed_clients", checks.dns_name, _ANY_CERTIFICATE),
    )


def _capture(section: Section) -> CaptureConfig:
    return CaptureConfig(
        default_device=section.optional("default_device", checks.interface, CaptureConfig.default_device),
        ring_bytes=section.optional("ring_bytes", _ring, CaptureConfig.ring_bytes),
        max_captures=section.optional("max_captures", _captures, CaptureConfig.max_captures),
        promiscuous=section.optional("promiscuous", checks.boolean, CaptureConfig.promiscuous),
    )


def _containers(section: Section) -> ContainersConfig:
    file = _file(section)
    return ContainersConfig(
        access=section.optional("access", _access, ContainersConfig.access),
        store=section.optional("store", file, ContainersConfig.store),
        runc=section.optional("runc", file, ContainersConfig.runc),
        runc_root=section.optional("runc_root", file, ContainersConfig.runc_root),
        netns_dir=section.optional("netns_dir", file, ContainersConfig.netns_dir),
    )


def _agent_metrics(section: Section) -> AgentMetricsConfig:
    return AgentMetricsConfig(
        host=section.optional("host", checks.address, AgentMetricsConfig.host),
        port=section.optional("port", checks.listening_port, AgentMetricsConfig.port),
    )


def _namespaces(section: Section) -> Dict[str, Path]:
    return {name: section.required(name, checks.absolute_path) for name in section.names()}


# --- api ---------------------------------------------------------------------


def _api_listen(section: Section) -> ListenConfig:
    config = ListenConfig(
        host=section.optional("host", checks.address, ListenConfig.host),
        port=section.optional("port", checks.listening_port, ListenConfig.port),
        tls=section.optional_section("tls", _api_tls),
    )
    if not section.has("tls") and config.host and not ipaddress.ip_address(config.host).is_loopback:
        section.warning("tls", f"absent, so tokens and packets reach {config.host} in clear")
    return config


def _api_tls(section: Section) -> ServerTLS:
    certificate, private_key = _key_pair(section)
    return ServerTLS(
        certificate=certificate,
        private_key=private_key,
        client_cas=_ca_file(section, "client_cas", section.optional("client_cas", _file(section), None)),
    )


def _agents(section: Section) -> AgentsConfig:
    return AgentsConfig(
        port=section.optional("port", checks.port, AgentsConfig.port),
        connect_timeout=section.optional("connect_timeout", checks.duration, AgentsConfig.connect_timeout),
        tls=section.required_section("tls", _client_tls, "agents accept only authenticated clients"),
    )


def _client_tls(section: Section) -> ClientTLS:
    certificate, private_key = _key_pair(section)
    return ClientTLS(
        certificate=certificate,
        private_key=private_key,
        ca=_ca_file(section, "ca", section.required("ca", _file(section))),
        server_name=section.required("server_name", checks.dns_name),
    )


def _limits(section: Section) -> ApiLimits:
    return ApiLimits(
        concurrent_captures=section.optional("concurrent_captures", _captures, ApiLimits.concurrent_captures),
        per_user=section.optional("per_user", _captures, ApiLimits.per_user),
        max_duration=section.optional("max_duration", checks.duration, ApiLimits.max_duration),
        max_bytes=section.optional("max_bytes", _capture_size, ApiLimits.max_bytes),
        max_targets=section.optional(
            "max_targets", checks.whole_number(1, SOURCES_MAX), ApiLimits.max_targets
        ),
    )


def _cloud_foundry(section: Section) -> CloudFoundryConfig:
    config = CloudFoundryConfig(
        api=section.required("api", checks.https_url),
        ca=_ca_file(section, "ca", section.optional("ca", _file(section), None)),
        required_permission=section.optional(
            "required_permission", _permission, CloudFoundryConfig.required_permission
        ),
        headers_only_permission=section.optional("headers_only_permission", _permission, None),
        opt_in=section.optional_section("opt_in", opt_in),
        client=section.optional_section("client", client),
    )
    if config.headers_only_permission and config.headers_only_permission == config.required_permission:
        section.problem("headers_only_permission", "must differ from required_permission")
    if config.required_permission == "read_basic_data":
        section.warning(
            "required_permission", "every user who can see an app, auditors too, can read its payloads"
        )
    return config


def _bosh(section: Section, agent_port: int) -> BoshConfig:
    return BoshConfig(
        director=section.required("director", checks.https_url),
        ca=_ca_file(section, "ca", section.optional("ca", _file(section), None)),
        agent_port=section.optional("agent_port", checks.port, agent_port),
        token_scope=section.optional("token_scope", checks.scope, None),
    )


def _metrics(section: Section) -> MetricsConfig:
    return MetricsConfig(
        host=section.optional("host", checks.address, MetricsConfig.host),
        port=section.optional("port", checks.listening_port, MetricsConfig.port),
    )


def _probe(section: Section) -> ProbeConfig:
    agents = section.optional_items("agents", checks.address)
    if len(agents) > PROBED_AGENTS_MAX:
        section.problem("agents", f"must be at most {PROBED_AGENTS_MAX} addresses")
    return ProbeConfig(
        enabled=section.optional("enabled", checks.boolean, ProbeConfig.enabled),
        interval=section.optional("interval", checks.duration, ProbeConfig.interval),
        agents=agents,
    )


def _cli(section: Section) -> CliConfig:
    directory = section.required("directory", _file(section))
    if directory:
        section.report.directories.append(Directory(f"{section.path}.directory", directory))
    return CliConfig(directory)


# --- shared ------------------------------------------------------------------


def _file(section: Section) -> checks.Check[Path]:
    return checks.file_in(section.directory)


def _key_pair(section: Section) -> Tuple[Path, Path]:
    certificate = section.required("certificate", _file(section))
    private_key = section.required("private_key", _file(section))
    if certificate and private_key:
        section.report.key_pairs.append(KeyPair(section.path, certificate, private_key))
    return certificate, private_key


def _ca_file(section: Section, key: str, file: F) -> F:
    if isinstance(file, Path):
        section.report.ca_files.append(CaFile(f"{section.path}.{key}", file))
    return file
