"""The audit log: captures, with user, targets, filter and limits, and refused attempts.

One record is written before the first packet of a capture and one at its end; a refused
attempt has one record.  Records do not depend on the log level, and never contain tokens.

A capture that cannot be recorded does not start: `Trail.record` raises.  While records cannot
be written, ``/health`` and a metric report this, and `Trail` retries periodically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pcapd.errors import AuditUnavailable
from pcapd.limits import AUDIT_CHECK_INTERVAL
from pcapd.net.logs import AUDIT_NAMESPACE, AuditOutput, Outcome
from pcapd.net.tally import Tally
from pcapd.wire import Request

__all__ = ["Trail", "request_fields"]

_log = Logger(namespace=AUDIT_NAMESPACE)


class Trail:
    """Writes audit records, and checks whether they can be written.

    Args:
        reactor: For time.
        output: Where `pcapd.net.logs` writes them; None if they go to the log.
        failures: A Prometheus counter of failed attempts.

    Attributes:
        trouble: Why records cannot be written; empty when they can.
        on_trouble: Called with the reason when the trouble begins.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, output: AuditOutput | None, failures: Any) -> None:
        self._output = output
        self._failures = failures
        self._refusals = Tally(reactor, self._refused)
        self._lost = 0  # number of records not written since the trouble began
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self.trouble = ""
        self.on_trouble: Callable[[str], None] = lambda _: None

    def start(self) -> None:
        """Check periodically whether records can be written."""
        self._looking.start(AUDIT_CHECK_INTERVAL)

    def stop(self) -> None:
        """Stop checking, and write the refusals that are still being counted."""
        if self._looking.running:
            self._looking.stop()
        self._refusals.flush()

    def record(self, event: str, **facts: Any) -> None:
        """Write the record of an action that must not begin if writing fails.

        Args:
            event: ``capture_started`` or ``capture_extended`` (a target was added while the
                capture ran).
            facts: The fields of the record, without secrets.

        Raises:
            AuditUnavailable: The record could not be written.
        """
        try:
            self._make_sure()
            self._write(event, facts)
        except OSError as error:
            self._fail(error)
            raise AuditUnavailable(
                f"the capture could not be recorded: {_reason(error)}",
                "ask the operator of the api",
            ) from error

    def note(self, event: str, **facts: Any) -> None:
        """Write the record of a past event; if that fails, write it to the log instead.

        Args:
            event: ``capture_ended`` or ``capture_refused``.
            facts: The fields of the record, without secrets.
        """
        try:
            self._write(event, facts)
        except OSError as error:
            self._lost += 1
            self._fail(error)
            self.log.error("an audit record could not be written: {audit}", audit=event, **facts)

    def refused(self, peer: str, code: str, facts: Mapping[str, Any]) -> None:
        """Record a refusal; those with the same peer, user and code within a second become one record."""
        self._refusals.add((peer, facts.get("user"), code), {"code": code, **facts})

    def _refused(self, count: int, facts: Mapping[str, Any]) -> None:
        self.note("capture_refused", count=count, **facts)

    # --- whether records can be written -------------------------------------

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        outcome = Outcome()
        _log.info("audit: {audit}", audit=event, log_outcome=outcome, **facts)
        if outcome.error is not None:
            raise OSError(*outcome.error.args) from outcome.error

    def _make_sure(self) -> None:
        """Check that records can be written.

        Raises:
            OSError: Records cannot be written.
        """
        if self._output is not None:
            self._output.check()
        if self.trouble:
            # Only a successful write proves that records can be written.  This record also ends the gap.
            self._write("audit_resumed", {"lost": self._lost})
            self.trouble, self._lost = "", 0
            self.log.info("audit records can be written again")

    def _look(self) -> None:
        try:
            self._make_sure()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failures.inc()
        if not self.trouble:
            self.trouble = f"audit records cannot be written: {_reason(error)}"
            self.log.error("{trouble}; captures are refused until they can", trouble=self.trouble)
            self.on_trouble(self.trouble)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def request_fields(request: Request) -> dict[str, Any]:
    """The contents of a request, as fields of a record."""
    return {
        **_app(request),
        **_deployment(request),
        "targets": list(request.targets),
        "interfaces": list(request.interfaces),
        "filter": request.filter,
        "snaplen": request.snaplen,
        "headers_only": request.headers_only,
        # Not "reason": that is why a capture ended or was refused.
        **({"purpose": request.reason} if request.reason else {}),
    }


def _app(request: Request) -> dict[str, Any]:
    if request.app is None:
        return {}
    return {
        "app": request.app.guid,
        "process_type": request.app.type,
        "instances": list(request.app.indices) or "all",
        "follow": request.follow,
    }


def _deployment(request: Request) -> dict[str, Any]:
    if request.deployment is None:
        return {}
    named = request.deployment
    return {
        "deployment": named.name,
        "groups": list(named.groups) or "all",
        "instances": list(named.instances) or "all",
    }
