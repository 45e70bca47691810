"""The resolver for Cloud Foundry apps: asks Cloud Controller, with the caller's own token.

Cloud Controller decides: the app must be visible to the token, and its
``permissions`` must grant what the configuration requires.  Where each instance
runs is then read from its processes' stats.  The token goes to the configured
host and nowhere else, whatever Cloud Controller's links say; it is never kept
longer than the question, and never logged.

Whether Cloud Controller is there is checked in the background, for ``/health``;
the api starts without it, and a request finds out for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from pcapd.api import cc
from pcapd.api.lookout import Lookout
from pcapd.api.resolvers import Resolved
from pcapd.config.schema import CloudFoundryConfig
from pcapd.errors import ResolverUnavailable, TargetNotFound
from pcapd.limits import (
    AUTHORITY_CALLERS,
    AUTHORITY_PAGES_MAX,
    AUTHORITY_TIMEOUT,
    PROCESSES_MAX,
)
from pcapd.net.clock import now_us
from pcapd.net.fetch import Answer, Authority, Conversation, Trust
from pcapd.wire import App, Request

__all__ = ["CloudFoundryResolver"]


class CloudFoundryResolver:
    """See the module.

    Args:
        config: The ``cloud_foundry`` section.
        agent_port: TCP port of the cells' agents.
        reactor: Where it runs.

    Raises:
        ConfigError: The file with its authority cannot be used.
    """

    log = Logger()
    name = "cloud_foundry"

    def __init__(self, config: CloudFoundryConfig, agent_port: int, reactor: Any) -> None:
        self._config = config
        self._agent_port = agent_port
        self._reactor = reactor
        self._trust = Trust(config.ca)
        self._authority = Authority(reactor, "Cloud Controller", config.api, self._trust)
        self._gate = DeferredSemaphore(AUTHORITY_CALLERS)
        self._links: cc.Links | None = None
        self._lookout = Lookout(reactor, "Cloud Controller", "apps cannot be captured", self._look)

    # --- is it there? ------------------------------------------------------

    def start(self) -> None:
        """Begin to look whether Cloud Controller is there."""
        self._lookout.start()

    def stop(self) -> None:
        """Look no more."""
        self._lookout.stop()

    def prepare(self) -> Callable[[], None]:
        """Read the file with its authority again; see `Resolver.prepare`."""
        return self._trust.prepare()

    def health(self) -> tuple[bool, str]:
        """Whether Cloud Controller answered when it was asked last."""
        if self._lookout.trouble or self._links is None:
            return False, self._lookout.trouble
        return True, f"Cloud Controller {self._links.version}, UAA {self._links.uaa or 'unknown'}"

    async def _look(self) -> None:
        conversation = self._authority.conversation()
        try:
            await self._discover(conversation)
        finally:
            conversation.close()

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

    def resolve(self, request: Request, token: str) -> Deferred[Resolved]:
        """See `Resolver.resolve`."""
        return self._bounded(request, token, may_be_none=False)

    def survey(self, request: Request, token: str) -> Deferred[Resolved]:
        """See `Resolver.survey`."""
        return self._bounded(request, token, may_be_none=True)

    def _bounded(self, request: Request, token: str, *, may_be_none: bool) -> Deferred[Resolved]:
        assert request.app is not None  # the api chose us for it

        def ask() -> Deferred[Resolved]:
            return Deferred.fromCoroutine(self._ask(app, token, may_be_none=may_be_none))

        app = request.app
        # The time spent waiting for a turn counts too.
        asked: Deferred[Resolved] = self._gate.run(ask)
        return asked.addTimeout(AUTHORITY_TIMEOUT, self._reactor).addErrback(_in_time)

    async def _ask(self, wanted: App, token: str, *, may_be_none: bool) -> Resolved:
        cc.check_app(wanted)
        cc.check_token(token)
        conversation = self._authority.conversation()
        try:
            links = self._links or await self._discover(conversation)
            question = _Question(conversation, links.v3, wanted, token)
            config = self._config
            app, user, whole = await question.permitted(
                config.required_permission, config.headers_only_permission
            )
            processes = await question.processes()
        finally:
            conversation.close()
        targets, notices = cc.choose(app, wanted, processes, self._agent_port, now_us())
        if not targets and not may_be_none:
            raise cc.none_running(app, wanted, notices)
        return Resolved(user, targets, notices, headers_only=not whole)


def _in_time(failure: Failure) -> Any:
    failure.trap(TimeoutError)
    raise ResolverUnavailable(
        f"Cloud Controller did not say all within {AUTHORITY_TIMEOUT:g} s", "try again later"
    )


class _Question:
    """What is asked about one app, with one token."""

    log = Logger(namespace="pcapd.api.cloudfoundry")

    def __init__(self, conversation: Conversation, v3: str, wanted: App, token: str) -> None:
        self._conversation = conversation
        self._v3 = v3
        self._wanted = wanted
        self._token = token

    async def permitted(self, permission: str, weaker: str | None) -> tuple[cc.CfApp, str, bool]:
        """The app, who asks, and whether they may see packets whole.

        Args:
            permission: Allows that.
            weaker: Allows headers; None: nothing less than `permission` allows anything.

        Raises:
            RequestError: They may not capture it, or Cloud Controller does not say.
        """
        guid = self._wanted.guid
        app = cc.parse_app(await self._get(f"{self._v3}/apps/{guid}"), guid)
        # Cloud Controller has accepted the token by now.
        user = cc.caller_name(self._token)
        granted = await self._get(f"{self._v3}/apps/{guid}/permissions")
        whole = cc.parse_permission(granted, permission)
        if not whole and (weaker is None or not cc.parse_permission(granted, weaker)):
            raise cc.forbidden(user, app, weaker or permission)
        return app, user, whole

    async def processes(self) -> list[tuple[cc.Process, tuple[cc.Instance, ...]]]:
        """The processes of the wanted type: two while a deployment rolls, and both serve."""
        found: list[cc.Process] = []
        target: str | None = f"{self._v3}/apps/{self._wanted.guid}/processes?types={self._wanted.type}"
        pages = 0
        while target is not None:
            page = cc.parse_processes(await self._get(target), self._conversation.host)
            found += page.processes
            target, pages = page.next, pages + 1
            if len(found) > PROCESSES_MAX or pages > AUTHORITY_PAGES_MAX:
                raise ResolverUnavailable(f"the app has more than {PROCESSES_MAX} processes of that type")
        return [(process, await self._stats(process)) for process in found]

    async def _stats(self, process: cc.Process) -> tuple[cc.Instance, ...]:
        try:
            return cc.parse_stats(await self._get(f"{self._v3}/processes/{process.guid}/stats"))
        except TargetNotFound:
            # Gone since it was listed: the end of a rolling deployment.
            return ()

    async def _get(self, target: str) -> bytes:
        answer = await self._conversation.get(target, self._token)
        if answer.status != 200:
            self._note(target, answer)
            raise cc.refusal(answer.status, answer.headers.get("retry-after"), self._wanted.guid)
        return answer.body

    def _note(self, target: str, answer: Answer) -> None:
        # Its own request id leads to Cloud Controller's log.
        self.log.info(
            "Cloud Controller answered {status} to GET {target}",
            status=answer.status,
            target=target,
            cc_request_id=answer.headers.get("x-vcap-request-id", "")[:256],
        )
