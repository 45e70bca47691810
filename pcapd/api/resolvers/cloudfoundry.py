"""The resolver for Cloud Foundry apps: asks Cloud Controller, with the user's own token.

Cloud Controller decides: the app must be visible to the token's owner, and the
answer to ``permissions`` must grant the permission that the configuration requires.
The stats of the app's processes then contain the host of each instance.  The token is sent to the configured
host and nowhere else, even if Cloud Controller's links name others; it is never
kept longer than the request, and never logged.

A background probe checks whether Cloud Controller is available, for ``/health``.
The api starts without it, and each request tries it again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from pcapd.api.resolvers.base import Resolved, asked_by
from pcapd.api.resolvers.cc import choose
from pcapd.api.resolvers.probe import HealthProbe
from pcapd.api.resolvers.questions import Questions
from pcapd.clouds import cloudcontroller as cc
from pcapd.clouds.optin import INCLUDE, OptIn, places_of
from pcapd.clouds.tokens import CF_LOG_IN, TokenOwner, check_form, owner_of
from pcapd.config.schema import ApiConfig, CloudFoundryConfig, OptInConfig
from pcapd.errors import RequestError, ResolverUnavailable, TargetNotFound
from pcapd.limits import AUTHORITY_PAGES_MAX, PROCESSES_MAX, TOKEN_LEEWAY
from pcapd.net.clock import now_us
from pcapd.net.fetch import Answer, Authority, Conversation, Trust
from pcapd.net.reactor import Reactor
from pcapd.wire import App, Request

__all__ = ["CloudFoundryResolver"]


class CloudFoundryResolver:
    """See the module.

    Args:
        config: The ``cloud_foundry`` section.
        agent_port: TCP port of the cells' agents.
        reactor: The reactor.

    Raises:
        ConfigError: The CA file cannot be used.
    """

    log = Logger()
    name = "cloud_foundry"
    captures = "Cloud Foundry apps"

    @classmethod
    def of(cls, config: ApiConfig, reactor: Reactor) -> CloudFoundryResolver | None:
        """See `Resolver.of`."""
        section = config.cloud_foundry
        return None if section is None else cls(section, config.agents.port, reactor)

    @staticmethod
    def asked(request: Request) -> bool:
        """See `Resolver.asked`."""
        return request.app is not None

    def __init__(self, config: CloudFoundryConfig, agent_port: int, reactor: Reactor) -> None:
        self._config = config
        self._agent_port = agent_port
        self._reactor = reactor
        self._opt_in = None if config.opt_in is None else _rule(config.opt_in)
        self._trust = Trust(config.ca)
        self._authority = Authority(reactor, "Cloud Controller", config.api, self._trust)
        self._questions = Questions(reactor, "Cloud Controller")
        self._links: cc.Links | None = None
        self._probe = HealthProbe(reactor, "Cloud Controller", "apps cannot be captured", self._look)

    # --- availability ------------------------------------------------------

    def start(self) -> None:
        """Start checking whether Cloud Controller is available."""
        self._probe.start()

    def stop(self) -> None:
        """Stop checking, and close the connections."""
        self._probe.stop()
        self._authority.close()

    def prepare(self) -> Callable[[], None]:
        """Read the CA file again; see `Resolver.prepare`."""
        use_trust = self._trust.prepare()

        def use() -> None:
            use_trust()
            self._authority.renew()

        return use

    @property
    def healthy(self) -> bool:
        """Whether Cloud Controller answered the last check."""
        return not self._probe.trouble and self._links is not None

    async def _look(self) -> None:
        await self._discover(self._authority.conversation())

    async def _discover(self, conversation: Conversation) -> cc.Links:
        answer = await conversation.get("/")
        if answer.status != 200:
            raise cc.refusal(answer.status, answer.headers.get("retry-after"), "")
        links = cc.parse_root(answer.body)
        if links != self._links:
            self.log.info("{api} is Cloud Controller {version}", api=self._config.api, version=links.version)
        self._links = links
        return links

    # --- Resolver ----------------------------------------------------------

    def resolve(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.resolve`."""
        return self._put(request, token, client, may_be_none=False)

    def identify(self, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.identify`; Cloud Controller accepts the token, or not."""
        try:
            claims = check_form(token, now_us() / 1e6, CF_LOG_IN, TOKEN_LEEWAY)
        except RequestError as error:
            return fail(error)
        conversation = self._authority.conversation()
        owner = owner_of(claims, self.name, str(claims.get("iss", "")))

        async def accepted() -> Resolved:
            v3 = (self._links or await self._discover(conversation)).v3
            answer = await conversation.get(f"{v3}/apps?per_page=1", token)
            if answer.status != 200:
                raise cc.refusal(answer.status, answer.headers.get("retry-after"), "")
            return Resolved(owner.user, (), identity=owner.identity, origin=owner.origin)

        return self._questions.put(client, conversation, accepted)

    def survey(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.survey`."""
        return self._put(request, token, client, may_be_none=True)

    def _put(self, request: Request, token: str, client: str, *, may_be_none: bool) -> Deferred[Resolved]:
        wanted = request.app
        assert wanted is not None  # `asked` was true for this request
        try:
            cc.check_app(wanted)
            claims = check_form(token, now_us() / 1e6, CF_LOG_IN, TOKEN_LEEWAY)
        except RequestError as error:
            return fail(error)
        conversation = self._authority.conversation()
        owner = owner_of(claims, self.name, str(claims.get("iss", "")))
        question = _AppQuestion(conversation, wanted, token, owner)
        return self._questions.put(
            client, conversation, lambda: self._ask(question, wanted, may_be_none=may_be_none)
        )

    async def _ask(self, question: _AppQuestion, wanted: App, *, may_be_none: bool) -> Resolved:
        v3 = (self._links or await self._discover(question.conversation)).v3
        config, owner = self._config, question.owner
        app, whole = await question.permitted(
            v3, config.required_permission, config.headers_only_permission, self._opt_in
        )
        with asked_by(owner.user):
            processes = await question.processes(v3)
            targets, notices = choose(app, wanted, processes, self._agent_port, now_us())
            if not targets and not may_be_none:
                raise cc.none_running(app, wanted, notices)
        return Resolved(
            owner.user,
            targets,
            notices,
            headers_only=not whole,
            identity=owner.identity,
            origin=owner.origin,
        )


def _rule(config: OptInConfig) -> OptIn:
    allowed = {"app": config.apps, "space": config.spaces, "organization": config.organizations}
    return OptIn(config.label, config.label_on, allowed)


class _AppQuestion:
    """The questions to Cloud Controller about one app, with one token.

    Attributes:
        owner: The owner that the token names; not trusted before Cloud Controller has
            accepted the token.
    """

    log = Logger(namespace="pcapd.api.resolvers.cloudfoundry")

    def __init__(self, conversation: Conversation, wanted: App, token: str, owner: TokenOwner) -> None:
        self.conversation = conversation
        self.owner = owner
        self._wanted = wanted
        self._token = token

    async def permitted(
        self, v3: str, permission: str, weaker: str | None, opt_in: OptIn | None
    ) -> tuple[cc.CfApp, bool]:
        """Get the app, and whether the user may capture whole packets.

        Args:
            v3: Path of the V3 API.
            permission: Name of the permission that allows whole packets.
            weaker: Name of one that allows headers only; None: headers need `permission` too.
            opt_in: Which apps may be captured at all; None for all.

        Raises:
            RequestError: The user may not capture the app, or Cloud Controller does not answer.
        """
        guid = self._wanted.guid
        body = await self._get(f"{v3}/apps/{guid}" + (f"?{INCLUDE}" if opt_in else ""))
        app = cc.parse_app(body, guid)
        # Cloud Controller has accepted the token by now.
        with asked_by(self.owner.user):
            granted = await self._get(f"{v3}/apps/{guid}/permissions")
            whole = cc.parse_permission(granted, permission)
            if not whole and (weaker is None or not cc.parse_permission(granted, weaker)):
                raise cc.forbidden(self.owner.user, app, weaker or permission)
            # After the permission: who may not capture the app learns nothing about its labels.
            if opt_in is not None:
                opt_in.check(app.name, places_of(body))
        return app, whole

    async def processes(self, v3: str) -> list[tuple[cc.Process, tuple[cc.Instance, ...]]]:
        """Get the processes of the requested type: during a rolling deployment there are two."""
        found: list[cc.Process] = []
        target: str | None = f"{v3}/apps/{self._wanted.guid}/processes?types={self._wanted.type}"
        pages = 0
        while target is not None:
            page = cc.parse_processes(await self._get(target), self.conversation.host)
            found += page.processes
            target, pages = page.next, pages + 1
            if len(found) > PROCESSES_MAX or pages > AUTHORITY_PAGES_MAX:
                raise ResolverUnavailable(f"the app has more than {PROCESSES_MAX} processes of that type")
        return [(process, await self._stats(v3, process)) for process in found]

    async def _stats(self, v3: str, process: cc.Process) -> tuple[cc.Instance, ...]:
        try:
            return cc.parse_stats(await self._get(f"{v3}/processes/{process.guid}/stats"))
        except TargetNotFound:
            # The process was deleted after it was listed, for example at the end of a rolling deployment.
            return ()

    async def _get(self, target: str) -> bytes:
        answer = await self.conversation.get(target, self._token)
        if answer.status != 200:
            self._note(target, answer)
            raise cc.refusal(answer.status, answer.headers.get("retry-after"), self._wanted.guid)
        return answer.body

    def _note(self, target: str, answer: Answer) -> None:
        # With Cloud Controller's request id, operators find the request in its log.
        self.log.info(
            "Cloud Controller answered {status} to GET {target}",
            status=answer.status,
            target=target,
            cc_request_id=answer.headers.get("x-vcap-request-id", "")[:256],
        )
