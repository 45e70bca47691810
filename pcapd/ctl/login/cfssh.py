"""``pcapctl cf --via ssh``: finds the app's instances, and whether ssh to them is enabled."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from pcapd.clouds.appssh import check_ssh, parse_space, sshd_ports
from pcapd.clouds.cloudcontroller import (
    Placed,
    Process,
    check_app,
    none_running,
    parse_app,
    parse_stats,
    pick,
)
from pcapd.ctl.cfplugin.cli import CfCli
from pcapd.ctl.login.cf import CfArguments, Cloud, app_guid, describe, reach, target_of
from pcapd.ctl.options import CaptureOptions, CaptureTarget, UsageProblem
from pcapd.errors import TargetNotFound
from pcapd.wire import App, Notice

__all__ = ["SshTarget", "prepare_ssh"]


class SshTarget(NamedTuple):
    """What ``cf ssh`` can reach.

    Attributes:
        app: Name of the app.
        instances: The instances that can be captured.
        unavailable: A notice for each that cannot.
        ports: The ports that carry ssh in a container, by the instance's index.
        target: The target, for the report.
    """

    app: str
    instances: Tuple[Placed, ...]
    unavailable: Tuple[Notice, ...]
    ports: Dict[int, Tuple[int, ...]]
    target: CaptureTarget


def prepare_ssh(asked: CfArguments, options: CaptureOptions, cli: Optional[CfCli] = None) -> SshTarget:
    """Find the instances, and check that ssh is enabled.

    Args:
        cli: The cf CLI that started pcapctl; None to read the login from its configuration.

    Raises:
        PcapdError: There is nothing to capture, or ssh is disabled; the hint suggests a remedy.
    """
    cloud = reach(asked, options, cli)
    guid = app_guid(asked.app, cloud)
    wanted = App(guid, asked.type, asked.instances)
    check_app(wanted)
    about = cloud.controller.about_app(guid)
    app = parse_app(about, guid)
    if parse_space(about) != cloud.login.space_guid:
        raise TargetNotFound(
            f"app {app.name} is not in the targeted space, where cf ssh looks for it",
            "choose its space with: cf target -s SPACE",
        )
    if app.name.startswith("-"):
        raise UsageProblem(f"cf ssh cannot reach an app whose name begins with a hyphen: {app.name}")
    _check_ssh(cloud, guid, app.name)
    # As cf ssh does, this takes one process of the type, also during a rolling deployment.
    path = f"/processes/{asked.type}/stats"
    stats = cloud.controller.about_app(guid, path, none_running(app, wanted, ()))
    picked, unavailable = pick(app, wanted, [(Process("", ""), parse_stats(stats))])
    if not picked:
        raise none_running(app, wanted, unavailable)
    # Each cf ssh needs a token: a fresh one, so that they do not all refresh it at the same time.
    cloud.session.token()
    describe(asked, guid, cloud)
    cloud.messages.detail("over cf ssh: what cf-pcap drops is unknown, and no pcap api permits or records it")
    return SshTarget(app.name, picked, unavailable, sshd_ports(stats), target_of(asked, guid, app.name))


def _check_ssh(cloud: Cloud, guid: str, app: str) -> None:
    space = cloud.login.space or cloud.login.space_guid
    check_ssh(cloud.controller.about_app(guid, "/ssh_enabled"), app, space)
