"""The parts of an api's configuration about what may be captured, why, and who records it.  Pure."""

from __future__ import annotations

from typing import Final, get_args

from pcapd.config import checks
from pcapd.config.schema import (
    AuditConfig,
    CloudFoundryClient,
    LabelPlace,
    OptInConfig,
    PolicyConfig,
    SyslogConfig,
)
from pcapd.config.section import CaFile, Directory, KeyPair, Section
from pcapd.limits import POLICY_FILTERS_LENGTH_MAX, POLICY_FILTERS_MAX

__all__ = ["audit", "client", "opt_in", "policy"]

_NO_DEVICES: Final = "an empty list would allow nothing; leave the key out to allow any interface"
_NOBODY: Final = "without label, apps, spaces or organizations nothing could be captured"

_label_place: checks.Check[LabelPlace] = checks.one_of(get_args(LabelPlace))


def policy(section: Section) -> PolicyConfig:
    """Make the rules that apply to every user."""
    exclude = section.optional_items("exclude", checks.exclusion)
    if len(exclude) > POLICY_FILTERS_MAX or sum(map(len, exclude)) > POLICY_FILTERS_LENGTH_MAX:
        section.problem(
            "exclude",
            f"must be at most {POLICY_FILTERS_MAX} filters, of {POLICY_FILTERS_LENGTH_MAX} characters in all",
        )
    devices = section.items("devices", checks.interface, _NO_DEVICES) if section.has("devices") else None
    return PolicyConfig(
        headers_only=section.optional("headers_only", checks.boolean, PolicyConfig.headers_only),
        devices=devices,
        exclude=exclude,
        require_reason=section.optional("require_reason", checks.boolean, PolicyConfig.require_reason),
    )


def opt_in(section: Section) -> OptInConfig:
    """Make the rule about the apps that may be captured at all."""
    found = OptInConfig(
        label=section.optional("label", checks.label, None),
        label_on=section.items("label_on", _label_place, _NOBODY)
        if section.has("label_on")
        else OptInConfig.label_on,
        apps=section.optional_items("apps", checks.guid),
        spaces=section.optional_items("spaces", checks.guid),
        organizations=section.optional_items("organizations", checks.guid),
    )
    if not any(map(section.has, ("label", "apps", "spaces", "organizations"))):
        section.problem("label", f"required: {_NOBODY}")
    if section.has("label_on") and not section.has("label"):
        section.problem("label_on", "needs label")
    return found


def client(section: Section) -> CloudFoundryClient:
    """Make the api's own UAA client."""
    if section.has("secret") == section.has("secret_file"):
        section.problem("secret, secret_file", "exactly one is required")
    return CloudFoundryClient(
        id=section.required("id", checks.text),
        secret=section.optional("secret", checks.text, None),
        secret_file=section.optional("secret_file", checks.file_in(section.directory), None),
    )


def audit(section: Section) -> AuditConfig:
    """Make where audit records go."""
    file = section.optional("file", checks.file_in(section.directory), None)
    if file is not None:
        section.report.directories.append(Directory(f"{section.path}.file", file.parent))
    syslog = section.optional_section("syslog", _syslog)
    if section.has("file") == section.has("syslog"):
        section.problem("file, syslog", "exactly one is required")
    return AuditConfig(file, syslog)


def _syslog(section: Section) -> SyslogConfig:
    file = checks.file_in(section.directory)
    config = SyslogConfig(
        socket=section.optional("socket", checks.absolute_path, None),
        host=section.optional("host", checks.host, None),
        port=section.optional("port", checks.port, SyslogConfig.port),
        ca=section.optional("ca", file, None),
        server_name=section.optional("server_name", checks.dns_name, None),
        certificate=section.optional("certificate", file, None),
        private_key=section.optional("private_key", file, None),
    )
    if section.has("socket") == section.has("host"):
        section.problem("socket, host", "exactly one is required; UDP is not supported: it loses records")
    for key in ("port", "ca", "server_name", "certificate", "private_key"):
        if section.has("socket") and section.has(key):
            section.problem(key, "needs host")
    if section.has("certificate") != section.has("private_key"):
        section.problem("certificate, private_key", "both are required, or neither")
    if config.ca is not None:
        section.report.ca_files.append(CaFile(f"{section.path}.ca", config.ca))
    if config.certificate and config.private_key:
        section.report.key_pairs.append(KeyPair(section.path, config.certificate, config.private_key))
    return config
