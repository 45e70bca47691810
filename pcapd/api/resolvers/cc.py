"""Make targets from Cloud Controller's answers (`pcapd.clouds.cloudcontroller`).  No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from pcapd.api.resolvers.base import Target
from pcapd.clouds.cloudcontroller import CfApp, Instance, Placed, Process, pick
from pcapd.wire import App, Container, Notice

__all__ = ["choose"]


def choose(
    app: CfApp,
    wanted: App,
    processes: Sequence[tuple[Process, Sequence[Instance]]],
    port: int,
    now_us: int,
) -> tuple[tuple[Target, ...], tuple[Notice, ...]]:
    """The instances that can be captured, as targets, and a notice for each that cannot.

    Args:
        processes: The processes of the requested type, with their instances.
        port: TCP port of the agents.
        now_us: The time of Cloud Controller's answer, in microseconds since the epoch.
    """
    picked, notices = pick(app, wanted, processes)
    return tuple(_target(app, placed, port, now_us) for placed in picked), notices


def _target(app: CfApp, placed: Placed, port: int, now_us: int) -> Target:
    instance = placed.instance
    container = Container(app.guid, instance.index, instance.handle, instance.address, placed.process.guid)
    started = now_us - instance.uptime * 1_000_000
    return Target(placed.name, placed.host, port, container=container, started_us=started)
