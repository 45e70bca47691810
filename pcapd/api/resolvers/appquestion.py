"""The questions to Cloud Controller about one app, its instances, and the roles of users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from twisted.logger import Logger

from pcapd.clouds import cloudcontroller as cc
from pcapd.clouds import roles
from pcapd.clouds.optin import INCLUDE, OptIn
from pcapd.errors import ResolverUnavailable, TargetNotFound
from pcapd.limits import AUTHORITY_PAGES_MAX, PROCESSES_MAX
from pcapd.net.fetch import Answer
from pcapd.wire import App

__all__ = ["AppQuestion"]


class AppQuestion:
    """See the module.

    Args:
        ask: Sends a GET request with somebody's token.
        host: Host and port of Cloud Controller.
        wanted: The app.
    """

    log = Logger()

    def __init__(self, ask: Callable[[str], Awaitable[Answer]], host: str, wanted: App) -> None:
        self._ask = ask
        self._host = host
        self._wanted = wanted

    async def app(self, v3: str, opt_in: OptIn | None) -> tuple[cc.CfApp, bytes]:
        """Get the app, and the answer about it.

        Args:
            v3: Path of the V3 API.
            opt_in: The answer contains what this rule needs.
        """
        guid = self._wanted.guid
        body = await self.get(f"{v3}/apps/{guid}" + (f"?{INCLUDE}" if opt_in else ""))
        return cc.parse_app(body, guid), body

    async def processes(self, v3: str) -> list[tuple[cc.Process, tuple[cc.Instance, ...]]]:
        """Get the processes of the requested type: during a rolling deployment there are two."""
        found: list[cc.Process] = []
        target: str | None = f"{v3}/apps/{self._wanted.guid}/processes?types={self._wanted.type}"
        pages = 0
        while target is not None:
            page = cc.parse_processes(await self.get(target), self._host)
            found += page.processes
            target, pages = page.next, pages + 1
            if len(found) > PROCESSES_MAX or pages > AUTHORITY_PAGES_MAX:
                raise ResolverUnavailable(f"the app has more than {PROCESSES_MAX} processes of that type")
        return [(process, await self._stats(v3, process)) for process in found]

    async def _stats(self, v3: str, process: cc.Process) -> tuple[cc.Instance, ...]:
        try:
            return cc.parse_stats(await self.get(f"{v3}/processes/{process.guid}/stats"))
        except TargetNotFound:
            # The process was deleted after it was listed, for example at the end of a rolling deployment.
            return ()

    async def any_role(self, v3: str, questions: Iterable[roles.RoleQuestion]) -> bool:
        """Whether one of these questions about roles is answered with yes."""
        for question in questions:
            target: str | None = question.target(v3)
            pages = 0
            while target is not None:
                body = await self.get(target)
                if roles.has_role(body, question):
                    return True
                target, pages = roles.next_page(body, self._host), pages + 1
                if pages > AUTHORITY_PAGES_MAX:
                    raise ResolverUnavailable("Cloud Controller's list of roles does not end")
        return False

    async def organization(self, v3: str, space: str) -> str:
        """Get the GUID of a space's organization; empty if there is no such space."""
        try:
            return roles.parse_organization(await self.get(f"{v3}/spaces/{space}"))
        except TargetNotFound:
            return ""

    async def get(self, target: str) -> bytes:
        """Get the body of an answer.

        Raises:
            RequestError: Cloud Controller does not answer, or with an error.
        """
        answer = await self._ask(target)
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
