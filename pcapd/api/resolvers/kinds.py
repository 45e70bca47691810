"""The kinds of resolvers.  To add one, write its module and add its class to `KINDS`."""

from __future__ import annotations

from pcapd.api.resolvers.base import Resolver
from pcapd.api.resolvers.bosh import BoshResolver
from pcapd.api.resolvers.cloudfoundry import CloudFoundryResolver
from pcapd.api.resolvers.static import StaticResolver
from pcapd.config.schema import ApiConfig
from pcapd.errors import TargetNotFound
from pcapd.net.reactor import Reactor
from pcapd.wire import Request

__all__ = ["KINDS", "configured", "resolver_for"]

KINDS: tuple[type[Resolver], ...] = (
    CloudFoundryResolver,
    BoshResolver,
    StaticResolver,
)


def configured(config: ApiConfig, reactor: Reactor) -> list[Resolver]:
    """Make a resolver for each section of the configuration that needs one.

    Raises:
        ConfigError: A file that one of them needs cannot be used.
    """
    made = (kind.of(config, reactor) for kind in KINDS)
    return [resolver for resolver in made if resolver is not None]


def resolver_for(request: Request, resolvers: list[Resolver]) -> Resolver:
    """Choose the resolver for the targets that a request names.

    Raises:
        TargetNotFound: The resolver for this kind of targets is not configured.
    """
    kind = next(kind for kind in KINDS if kind.asked(request))
    for resolver in resolvers:
        if resolver.name == kind.name:
            return resolver
    message = f"this api does not capture {kind.captures}"
    raise TargetNotFound(message, f"its operator must configure {kind.name}")
