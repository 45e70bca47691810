"""Parses the section ``static`` of an api's configuration: users and targets by name.  Pure."""

from __future__ import annotations

from typing import Dict, Mapping

from pcapd.config import checks
from pcapd.config.schema import ANY_TARGET, StaticConfig, StaticTarget, StaticUser
from pcapd.config.section import Section
from pcapd.limits import AGENT_PORTS_MAX

__all__ = ["static"]


def static(section: Section, agent_port: int) -> StaticConfig:
    """Make the values of the section.

    Args:
        section: The section ``static``.
        agent_port: TCP port of targets for which none is configured.
    """
    config = StaticConfig(
        users=section.required_section("users", _users),
        targets=section.required_section("targets", lambda targets: _targets(targets, agent_port)),
    )
    # Each is None if its section is missing or has problems.
    if config.users is not None and config.targets is not None:
        _find_unknown_targets(section, config)
        if len({target.port for target in config.targets.values() if target}) > AGENT_PORTS_MAX - 2:
            section.problem("targets", f"agents have more than {AGENT_PORTS_MAX - 2} different ports")
    return config


def _users(section: Section) -> Dict[str, StaticUser]:
    users = {name: section.required_section(name, _user) for name in section.names()}
    _find_shared_tokens(section, users)
    # Users with problems are left out of the next check.
    return {name: user for name, user in users.items() if user}


def _user(section: Section) -> StaticUser:
    return StaticUser(
        token_sha256=section.required("token_sha256", checks.token_hash),
        targets=section.items("targets", _target_pattern),
        headers_only=section.optional("headers_only", checks.boolean, StaticUser.headers_only),
    )


def _targets(section: Section, agent_port: int) -> Dict[str, StaticTarget]:
    def target(section: Section) -> StaticTarget:
        return StaticTarget(
            host=section.required("host", checks.address),
            port=section.optional("port", checks.port, agent_port),
            namespace=section.optional("namespace", checks.name, None),
        )

    return {name: section.required_section(name, target) for name in section.names()}


def _target_pattern(value: object) -> str:
    return ANY_TARGET if value == ANY_TARGET else checks.name(value)


def _find_unknown_targets(section: Section, config: StaticConfig) -> None:
    for name, user in config.users.items():
        for target in user.targets:
            if target != ANY_TARGET and target not in config.targets:
                section.problem(f"users.{name}.targets", f"there is no target {target}")


def _find_shared_tokens(section: Section, users: Mapping[str, StaticUser]) -> None:
    """Refuse a token that two users have, because audit records could not distinguish them."""
    owners: Dict[str, str] = {}
    for name, user in users.items():
        if user and user.token_sha256:
            owner = owners.setdefault(user.token_sha256, name)
            if owner != name:
                section.problem(f"{name}.token_sha256", f"is also the token of {owner}")
