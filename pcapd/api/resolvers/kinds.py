"""Which kinds of resolvers there are.  A new one is its module, and its class in `KINDS`."""

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
    """Make the resolvers that the configuration has a section for.

    Raises:
        ConfigError: A file that one of them needs cannot be used.
    """
    made = (kind.of(config, reactor) for kind in KINDS)
    return [resolver for resolver in made if resolver is not None]


def resolver_for(request: Request, resolvers: list[Resolver]) -> Resolver:
    """The one of them that knows what a request names.

    Raises:
        TargetNotFound: It is not configured.
    """
    kind = next(kind for kind in KINDS if kind.asked(request))
    for resolver in resolvers:
        if resolver.name == kind.name:
            return resolver
    raise TargetNotFound(f"this api captures no {kind.captures}", f"its operator must configure {kind.name}")
