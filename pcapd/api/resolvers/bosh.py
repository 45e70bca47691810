"""The resolver for the VMs of BOSH deployments: asks the director, with the user's own token.

The director's answer to ``/info`` names its UAA.  The api verifies the token with this
UAA's keys before it sends it to the director.  A capture requires an admin of the
deployment, like ``bosh ssh``; permission to list instances is not enough.  The addresses
of the instances come from the director.  A token is sent to the configured director and
nowhere else; it is never kept longer than the request, and never logged.

A background probe checks whether director and UAA are available, for ``/health``.
The api starts without them, and each request tries them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from twisted.internet.defer import Deferred, DeferredLock, fail
from twisted.logger import Logger

from pcapd.api.resolvers import tokens
from pcapd.api.resolvers.base import Resolved, WithoutSpaces, asked_by
from pcapd.api.resolvers.director import choose
from pcapd.api.resolvers.probe import HealthProbe
from pcapd.api.resolvers.questions import Questions
from pcapd.clouds import director
from pcapd.clouds.tokens import Issuer, TokenOwner, check_form
from pcapd.config.schema import ApiConfig, BoshConfig
from pcapd.errors import RequestError, ResolverUnavailable
from pcapd.limits import KEYS_AGE_MAX, KEYS_INTERVAL, LISTED_MAX
from pcapd.net.clock import now_us
from pcapd.net.fetch import Answer, Authority, Conversation, Trust
from pcapd.net.reactor import Reactor
from pcapd.wire import Deployment, Request

__all__ = ["BoshResolver"]

#: Asks only for names and teams, because the rest of the answer is large.
_DEPLOYMENTS = (
    "/deployments?exclude_configs=true&exclude_releases=true&exclude_stemcells=true&exclude_lock=true"
)


class BoshResolver(WithoutSpaces):
    """See the module.

    Args:
        config: The ``bosh`` section.
        reactor: The reactor.

    Raises:
        ConfigError: The CA file cannot be used.
    """

    log = Logger()
    name = "bosh"
    captures = "BOSH deployments"

    @classmethod
    def of(cls, config: ApiConfig, reactor: Reactor) -> BoshResolver | None:
        """See `Resolver.of`."""
        return None if config.bosh is None else cls(config.bosh, reactor)

    @staticmethod
    def asked(request: Request) -> bool:
        """See `Resolver.asked`."""
        return request.deployment is not None

    def __init__(self, config: BoshConfig, reactor: Reactor) -> None:
        self._config = config
        self._reactor = reactor
        self._trust = Trust(config.ca)
        self._authority = Authority(reactor, "the director", config.director, self._trust)
        self._questions = Questions(reactor, "the director")
        self._world: _World | None = None
        self._probe = HealthProbe(reactor, "the director", "BOSH VMs cannot be captured", self._look)

    # --- availability ------------------------------------------------------

    def start(self) -> None:
        """Start checking whether director and UAA are available."""
        self._probe.start()

    def stop(self) -> None:
        """Stop checking, and close the connections."""
        self._probe.stop()
        self._authority.close()
        if self._world is not None:
            self._world.keys.close()

    def prepare(self) -> Callable[[], None]:
        """Read the CA file again; see `Resolver.prepare`."""
        use_trust = self._trust.prepare()

        def use() -> None:
            use_trust()
            self._authority.renew()
            if self._world is not None:
                self._world.keys.renew()

        return use

    @property
    def healthy(self) -> bool:
        """Whether director and UAA answered the last check."""
        return not self._probe.trouble and self._world is not None

    async def _look(self) -> None:
        """Fetch the data and keys again: a key removed from UAA must not be trusted much longer."""
        await (await self._discover()).keys.fetch()

    async def _discover(self) -> _World:
        answer = await self._authority.get("/info")
        if answer.status != 200:
            raise ResolverUnavailable(
                f"the director answered with an error ({answer.status}) when asked for itself",
                "ask the operator to check bosh.director",
            )
        info = director.parse_info(answer.body)
        issuer = info.issuer
        world = self._world
        if world is None or world.issuer != issuer:
            # The director now names another UAA: the keys of the old one are not valid any more.
            keys = _Keys(self._reactor, issuer.url, self._trust)
            self.log.info(
                "{url} is director {name}, its UAA is {uaa}",
                url=self._config.director,
                name=info.name,
                uaa=issuer.url,
            )
        else:
            keys = world.keys
        self._world = world = _World(issuer, keys, tokens.ScopeRule(info.uuid, self._config.token_scope))
        return world

    # --- Resolver ----------------------------------------------------------

    def resolve(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.resolve`."""
        return self._put(request, token, client, may_be_none=False)

    def identify(self, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.identify`; the token is verified with UAA's keys, and sent to nobody."""
        try:
            check_form(token, now_us() / 1e6)
        except RequestError as error:
            return fail(error)

        async def verified() -> Resolved:
            world = self._world or await self._discover()
            key = await world.keys.get(tokens.key_id(token, world.issuer))
            owner = tokens.verify(token, key, world.issuer, world.rule)
            return Resolved(owner.user, (), identity=owner.identity, origin=owner.origin)

        return self._questions.put(client, self._authority.conversation(), verified)

    def survey(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.survey`."""
        return self._put(request, token, client, may_be_none=True)

    def _put(self, request: Request, token: str, client: str, *, may_be_none: bool) -> Deferred[Resolved]:
        deployment = request.deployment
        assert deployment is not None  # `asked` was true for this request
        try:
            director.check_deployment(deployment)
            check_form(token, now_us() / 1e6)
        except RequestError as error:
            return fail(error)
        conversation = self._authority.conversation()
        question = _DeploymentQuestion(conversation, deployment, token)
        return self._questions.put(
            client, conversation, lambda: self._ask(question, deployment, token, may_be_none=may_be_none)
        )

    async def _ask(
        self, question: _DeploymentQuestion, deployment: Deployment, token: str, *, may_be_none: bool
    ) -> Resolved:
        world = self._world or await self._discover()
        issuer = world.issuer
        key = await world.keys.get(tokens.key_id(token, issuer))
        owner = tokens.verify(token, key, issuer, world.rule)
        with asked_by(owner.user):
            await question.permitted(world.rule, owner)
            vms = await question.instances()
            targets, notices = choose(deployment, vms, self._config.agent_port)
            if not targets and not may_be_none:
                raise director.nothing_there(deployment, notices)
        return Resolved(owner.user, targets, notices, identity=owner.identity, origin=owner.origin)


class _World:
    """The director's UAA, its keys, and the rule for scopes."""

    def __init__(self, issuer: Issuer, keys: _Keys, rule: tokens.ScopeRule) -> None:
        self.issuer = issuer
        self.keys = keys
        self.rule = rule


class _Keys:
    """The keys of one UAA, fetched only from this UAA."""

    log = Logger(namespace="pcapd.api.resolvers.bosh")

    def __init__(self, reactor: Reactor, url: str, trust: Trust) -> None:
        self._reactor = reactor
        self._authority = Authority(reactor, "UAA", url, trust)
        # The URL of UAA may contain a path.
        self._target = url.removeprefix(self._authority.base) + "/token_keys"
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._one_at_a_time = DeferredLock()
        self._tried_at: float | None = None
        self._fetched_at: float | None = None
        self._trouble: RequestError | None = None
        self._problems: tuple[str, ...] = ()

    def renew(self) -> None:
        """Use the CA certificates that were read again."""
        self._authority.renew()

    def close(self) -> None:
        """Close idle connections, and busy ones after their answer."""
        self._authority.close()

    async def get(self, name: str) -> RSAPublicKey:
        """Get the key with this id; for an unknown id, ask UAA again, but not too often.

        Raises:
            Unauthenticated: UAA does not have this key.
            ResolverUnavailable: UAA cannot be reached.
        """
        if not self._known(name):
            await self._one_at_a_time.acquire()
            try:
                # An earlier caller may have fetched it while this one waited.
                if not self._known(name) and self._may_ask():
                    await self._fetch()
            finally:
                self._one_at_a_time.release()
        if self._known(name):
            return self._keys[name]
        if self._trouble is not None:
            raise ResolverUnavailable(self._trouble.message, self._trouble.hint)
        raise tokens.unknown_key()

    async def fetch(self) -> None:
        """Fetch the keys now.

        Raises:
            ResolverUnavailable: There is no answer, or it is not valid.
        """
        await self._one_at_a_time.acquire()
        try:
            await self._fetch()
        finally:
            self._one_at_a_time.release()

    def _known(self, name: str) -> bool:
        fresh = self._fetched_at is not None and self._reactor.seconds() - self._fetched_at < KEYS_AGE_MAX
        return fresh and name in self._keys

    def _may_ask(self) -> bool:
        return self._tried_at is None or self._reactor.seconds() - self._tried_at >= KEYS_INTERVAL

    async def _fetch(self) -> None:
        # This error remains if the request is cancelled, because UAA's current keys are not known then.
        self._trouble = ResolverUnavailable("UAA did not return all its keys", "try again later")
        try:
            answer = await self._authority.get(self._target)
            if answer.status != 200:
                raise ResolverUnavailable(
                    f"UAA answered with an error ({answer.status}) when asked for its keys", "try again later"
                )
            keys, problems = tokens.parse_keys(answer.body)
        except ResolverUnavailable as error:
            self._trouble = error
            raise
        finally:
            # The interval begins after the answer.  Otherwise, after a slow answer, each waiting caller
            # would ask again.
            self._tried_at = self._reactor.seconds()
        self._note(keys, problems)
        self._keys, self._fetched_at, self._trouble = keys, self._reactor.seconds(), None

    def _note(self, keys: Mapping[str, RSAPublicKey], problems: tuple[str, ...]) -> None:
        if set(keys) != set(self._keys):
            self.log.info("UAA has the keys {keys}", keys=sorted(keys))
        if problems != self._problems:
            self._problems = problems
            if problems:
                self.log.warn("some of UAA's keys are not used: {problems}", problems=problems[:LISTED_MAX])


class _DeploymentQuestion:
    """The questions to the director about one deployment, with one token."""

    log = Logger(namespace="pcapd.api.resolvers.bosh")

    def __init__(self, conversation: Conversation, deployment: Deployment, token: str) -> None:
        self._conversation = conversation
        self._deployment = deployment
        self._token = token

    async def permitted(self, rule: tokens.ScopeRule, owner: TokenOwner) -> None:
        """Check the owner's permission; ask for the deployment's teams if they decide.

        Raises:
            RequestError: The owner may not capture there, or the director does not answer.
        """
        if rule.allows(owner):
            return
        if rule.depends_on_teams(owner):
            teams = director.parse_teams(await self._get(_DEPLOYMENTS), self._deployment.name)
            if teams is not None and rule.allows(owner, teams):
                return
        raise rule.forbidden(owner, self._deployment.name)

    async def instances(self) -> tuple[director.Vm, ...]:
        """Get all instances of the deployment."""
        return director.parse_instances(await self._get(f"/deployments/{self._deployment.name}/instances"))

    async def _get(self, target: str) -> bytes:
        answer = await self._conversation.get(target, self._token)
        if answer.status != 200:
            self._note(target, answer)
            raise director.refusal(answer.status, answer.body, self._deployment.name)
        return answer.body

    def _note(self, target: str, answer: Answer) -> None:
        self.log.info("the director answered {status} to GET {target}", status=answer.status, target=target)
