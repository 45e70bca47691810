"""Asks Cloud Controller with the api's own client, while a capture runs: `pcapd.api.resolvers.base.Overseer`.

The client may read everything except secrets.  So it says where instances run and which roles users have;
who may capture an app at all is decided with the user's own token, before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from pcapd.api.resolvers.appquestion import AppQuestion
from pcapd.api.resolvers.base import Resolved, Standing
from pcapd.api.resolvers.cc import choose
from pcapd.api.resolvers.ownclient import OwnClient
from pcapd.api.resolvers.questions import Questions
from pcapd.clouds import cloudcontroller as cc
from pcapd.clouds import roles
from pcapd.clouds.optin import OptIn, places_of
from pcapd.config.schema import CloudFoundryConfig
from pcapd.errors import Forbidden, ResolverUnavailable, TargetNotFound
from pcapd.net.clock import now_us
from pcapd.net.fetch import Answer, Conversation
from pcapd.wire import App, Request

__all__ = ["ClientOverseer"]

#: Statuses with which Cloud Controller refuses a token.
_REFUSED = (401, 403)


class ClientOverseer:
    """See the module.

    Args:
        config: The section ``cloud_foundry``.
        agent_port: TCP port of the cells' agents.
        opt_in: Which apps may be captured at all; None for all.
        client: The api's own client.
        questions: The queue in front of Cloud Controller; each user has a share.
        conversation: Makes a conversation with Cloud Controller.
        links: Cloud Controller's root document.
    """

    def __init__(  # noqa: PLR0917
        self,
        config: CloudFoundryConfig,
        agent_port: int,
        opt_in: OptIn | None,
        client: OwnClient,
        questions: Questions,
        conversation: Callable[[], Conversation],
        links: Callable[[Conversation], Awaitable[cc.Links]],
    ) -> None:
        self._config = config
        self._agent_port = agent_port
        self._opt_in = opt_in
        self._client = client
        self._questions = questions
        self._conversation = conversation
        self._links = links

    def survey(self, request: Request, standing: Standing) -> Deferred[Resolved]:
        """See `Overseer.survey`."""
        wanted = _app(request)

        async def surveyed(question: AppQuestion, v3: str) -> Resolved:
            app, body = await question.app(v3, self._opt_in)
            if self._opt_in is not None:
                self._opt_in.check(app.name, places_of(body))
            processes = await question.processes(v3)
            targets, notices = choose(app, wanted, processes, self._agent_port, now_us())
            return Resolved(standing.user, targets, notices, identity=standing.user)

        return self._put(wanted, standing, surveyed)

    def check(self, request: Request, standing: Standing) -> Deferred[None]:
        """See `Overseer.check`."""
        wanted = _app(request)
        permission = self._config.permission(headers_only=request.headers_only)

        async def checked(question: AppQuestion, v3: str) -> Resolved:
            if not standing.by_scope:
                await self._check_role(question, v3, standing, permission)
            if self._opt_in is not None:
                await self._check_opt_in(question, v3, self._opt_in)
            return Resolved(standing.user, (), identity=standing.user)

        return self._put(wanted, standing, checked).addCallback(lambda _: None)

    async def _check_role(self, question: AppQuestion, v3: str, standing: Standing, permission: str) -> None:
        needs_organization = len(roles.questions(permission, standing.user, standing.space, "?")) > 1
        organization = await question.organization(v3, standing.space) if needs_organization else ""
        asked = roles.questions(permission, standing.user, standing.space, organization)
        if not await question.any_role(v3, asked):
            raise Forbidden(
                "the role that a capture of this app needs was taken away",
                "ask for the role of a space developer",
            )

    async def _check_opt_in(self, question: AppQuestion, v3: str, opt_in: OptIn) -> None:
        try:
            app, body = await question.app(v3, opt_in)
        except TargetNotFound:
            return  # the app was deleted, so its capture ends by itself
        opt_in.check(app.name, places_of(body))

    def _put(
        self, wanted: App, standing: Standing, ask: Callable[[AppQuestion, str], Awaitable[Resolved]]
    ) -> Deferred[Resolved]:
        conversation = self._conversation()

        async def asked() -> Resolved:
            links = await self._links(conversation)
            question = AppQuestion(
                lambda target: self._get(conversation, links.uaa, target), conversation.host, wanted
            )
            return await ask(question, links.v3)

        return self._questions.put(f"user {standing.user}", conversation, asked)

    async def _get(self, conversation: Conversation, uaa: str, target: str) -> Answer:
        """GET with the client's token; it may be replaced once, because UAA's keys may have changed."""
        for _ in range(2):
            token = await self._client.get(uaa)
            answer = await conversation.get(target, token)
            if answer.status not in _REFUSED:
                return answer
            self._client.forget(token)
        raise ResolverUnavailable(
            f"Cloud Controller does not accept the api's own client ({answer.status})",
            "ask the operator to check cloud_foundry.client",
        )


def _app(request: Request) -> App:
    assert request.app is not None, "only apps have a standing"
    return request.app
