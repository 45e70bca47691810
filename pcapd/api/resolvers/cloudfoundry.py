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

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from pcapd.api.resolvers.appquestion import AppQuestion
from pcapd.api.resolvers.base import Overseer, Resolved, Standing, asked_by
from pcapd.api.resolvers.cc import choose
from pcapd.api.resolvers.overseer import ClientOverseer
from pcapd.api.resolvers.ownclient import OwnClient
from pcapd.api.resolvers.probe import HealthProbe
from pcapd.api.resolvers.questions import Questions
from pcapd.clouds import cloudcontroller as cc
from pcapd.clouds import roles
from pcapd.clouds.optin import OptIn, places_of
from pcapd.clouds.tokens import CF_LOG_IN, check_form, owner_of
from pcapd.config.schema import ApiConfig, CloudFoundryConfig, OptInConfig
from pcapd.errors import RequestError
from pcapd.limits import TOKEN_LEEWAY
from pcapd.net.clock import now_us
from pcapd.net.fetch import Authority, Conversation, Trust
from pcapd.net.reactor import Reactor
from pcapd.wire import App, Request

__all__ = ["CloudFoundryResolver"]

Claims = Mapping[str, Any]
#: Asks what one request needs: with the path of the V3 API, the claims of the token, and the app.
_Ask = Callable[[AppQuestion, str, Claims, App], Coroutine[Any, Any, Resolved]]


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
        self._client = None if config.client is None else OwnClient(reactor, config.client, self._trust)
        self.overseer: Overseer | None = None if self._client is None else self._overseer(self._client)
        self._probe = HealthProbe(reactor, "Cloud Controller", "apps cannot be captured", self._look)

    def _overseer(self, client: OwnClient) -> ClientOverseer:
        return ClientOverseer(
            self._config,
            self._agent_port,
            self._opt_in,
            client,
            self._questions,
            self._authority.conversation,
            self._known,
        )

    # --- availability ------------------------------------------------------

    def start(self) -> None:
        """Start checking whether Cloud Controller is available."""
        self._probe.start()

    def stop(self) -> None:
        """Stop checking, and close the connections."""
        self._probe.stop()
        self._authority.close()
        if self._client is not None:
            self._client.close()

    def prepare(self) -> Callable[[], None]:
        """Read the CA file and the client's secret again; see `Resolver.prepare`."""
        use_trust = self._trust.prepare()
        use_client = (lambda: None) if self._client is None else self._client.prepare()

        def use() -> None:
            use_trust()
            self._authority.renew()
            use_client()

        return use

    @property
    def healthy(self) -> bool:
        """Whether Cloud Controller answered the last check."""
        return not self._probe.trouble and self._links is not None

    async def _look(self) -> None:
        links = await self._discover(self._authority.conversation())
        if self._client is not None:
            await self._client.try_it(links.uaa)

    async def _known(self, conversation: Conversation) -> cc.Links:
        return self._links or await self._discover(conversation)

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
        return self._look_up(request, token, client, may_be_none=False)

    def identify(self, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.identify`; Cloud Controller accepts the token, or not."""
        try:
            claims = check_form(token, now_us() / 1e6, CF_LOG_IN, TOKEN_LEEWAY)
        except RequestError as error:
            return fail(error)
        conversation = self._authority.conversation()
        owner = owner_of(claims, self.name, str(claims.get("iss", "")))

        async def accepted() -> Resolved:
            v3 = (await self._known(conversation)).v3
            answer = await conversation.get(f"{v3}/apps?per_page=1", token)
            if answer.status != 200:
                raise cc.refusal(answer.status, answer.headers.get("retry-after"), "")
            return Resolved(owner.user, (), identity=owner.identity, origin=owner.origin)

        return self._questions.put(client, conversation, accepted)

    def survey(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.survey`."""
        return self._look_up(request, token, client, may_be_none=True)

    def vouch(self, request: Request, standing: Standing, token: str, client: str) -> Deferred[None]:
        """See `Resolver.vouch`."""

        async def ask(question: AppQuestion, v3: str, claims: Claims, wanted: App) -> Resolved:
            permission = self._config.permission(headers_only=request.headers_only)
            scopes, user = owner_of(claims).scopes, roles.user_of(claims)
            organization = await question.organization(v3, standing.space)
            if not scopes & roles.granting_scopes(permission):
                asked = roles.questions(permission, user, standing.space, organization)
                if not await question.any_role(v3, asked):
                    raise cc.no_app(wanted.guid)
            elif not organization:
                # Cloud Controller has accepted the token, so its scopes count; but the space is gone too.
                raise cc.no_app(wanted.guid)
            return Resolved(user, identity=user, targets=())

        return self._put(request, token, client, ask).addCallback(lambda _: None)

    def _look_up(self, request: Request, token: str, client: str, *, may_be_none: bool) -> Deferred[Resolved]:
        async def ask(question: AppQuestion, v3: str, claims: Claims, wanted: App) -> Resolved:
            owner = owner_of(claims, self.name, str(claims.get("iss", "")))
            app, body, whole = await self._permitted(question, v3, owner.user)
            with asked_by(owner.user):
                processes = await question.processes(v3)
                targets, notices = choose(app, wanted, processes, self._agent_port, now_us())
                if not targets and not may_be_none:
                    raise cc.none_running(app, wanted, notices)
            permission = self._config.permission(headers_only=not whole)
            by_scope = bool(owner.scopes & roles.granting_scopes(permission))
            return Resolved(
                owner.user,
                targets,
                notices,
                headers_only=not whole,
                identity=owner.identity,
                origin=owner.origin,
                standing=Standing(roles.user_of(claims), roles.parse_space(body), by_scope),
            )

        return self._put(request, token, client, ask)

    def _put(self, request: Request, token: str, client: str, ask: _Ask) -> Deferred[Resolved]:
        wanted = request.app
        assert wanted is not None  # `asked` was true for this request
        try:
            cc.check_app(wanted)
            claims = check_form(token, now_us() / 1e6, CF_LOG_IN, TOKEN_LEEWAY)
        except RequestError as error:
            return fail(error)
        conversation = self._authority.conversation()
        question = AppQuestion(lambda target: conversation.get(target, token), conversation.host, wanted)

        async def known() -> Resolved:
            return await ask(question, (await self._known(conversation)).v3, claims, wanted)

        return self._questions.put(client, conversation, known)

    async def _permitted(self, question: AppQuestion, v3: str, user: str) -> tuple[cc.CfApp, bytes, bool]:
        """Get the app, the answer about it, and whether the user may capture whole packets.

        Args:
            user: The owner that the token names; not trusted before Cloud Controller has accepted the
                token.

        Raises:
            RequestError: The user may not capture the app, or Cloud Controller does not answer.
        """
        config = self._config
        app, body = await question.app(v3, self._opt_in)
        # Cloud Controller has accepted the token by now.
        with asked_by(user):
            granted = await question.get(f"{v3}/apps/{app.guid}/permissions")
            whole = cc.parse_permission(granted, config.required_permission)
            weaker = config.headers_only_permission
            if not whole and (weaker is None or not cc.parse_permission(granted, weaker)):
                raise cc.forbidden(user, app, weaker or config.required_permission)
            # After the permission: who may not capture the app learns nothing about its labels.
            if self._opt_in is not None:
                self._opt_in.check(app.name, places_of(body))
        return app, body, whole


def _rule(config: OptInConfig) -> OptIn:
    allowed = {"app": config.apps, "space": config.spaces, "organization": config.organizations}
    return OptIn(config.label, config.label_on, allowed)
