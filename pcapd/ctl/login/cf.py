"""``pcapctl cf``: finds the app and the pcap api with the cf CLI's login."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from pcapd.clouds.uaa import LoginProblem, check_url
from pcapd.ctl.cfplugin.cli import CfCli, RpcSession
from pcapd.ctl.display.messages import Messages
from pcapd.ctl.login.cfconfig import Login, config_path, is_guid, pcap_of_api
from pcapd.ctl.login.cflogin import read_login
from pcapd.ctl.login.cloud import CfSession, CloudController, TokenSource
from pcapd.ctl.login.fetch import Client
from pcapd.ctl.options import Access, CaptureOptions, CaptureTarget, Trust, UsageProblem, instances_text
from pcapd.ctl.sinks.files import check_files
from pcapd.ctl.stream.connection import address_of
from pcapd.errors import TargetNotFound
from pcapd.wire import App

__all__ = [
    "VIA_SSH",
    "CfArguments",
    "Cloud",
    "app_guid",
    "describe",
    "find_api",
    "prepare",
    "reach",
    "target_of",
]


#: The way without a pcap api, for hints.
VIA_SSH = "capture without it, over ssh: --via ssh"
_DERIVED = "derived from"


@dataclass(frozen=True)
class CfArguments:
    """The arguments of ``pcapctl cf``.

    Attributes:
        app: Name or GUID of the app.
        api: The pcap api's URL; None to find it with Cloud Controller.
        ca: File of CA certificates in addition to the system's.
        trust: The CAs that are accepted.
    """

    app: str
    instances: Tuple[int, ...]
    type: str
    follow: bool
    api: Optional[str]
    ca: Optional[Path]
    trust: Trust = Trust.ALSO_GIVEN


class Cloud(NamedTuple):
    """The foundation to which the user is logged in."""

    login: Login
    session: TokenSource
    controller: CloudController
    messages: Messages


def prepare(
    asked: CfArguments, options: CaptureOptions, cli: Optional[CfCli] = None
) -> Tuple[Access, CaptureTarget]:
    """Find the app and the pcap api, and get a token that stays valid for a while.

    Args:
        cli: The cf CLI that started pcapctl; None to read the login from its configuration.

    Raises:
        PcapdError: The app, the api or a token cannot be had; the hint suggests a remedy.
    """
    cloud = reach(asked, options, cli)
    guid = app_guid(asked.app, cloud)
    api, reason = _api(asked.api, cloud.login, cloud.controller)
    token = cloud.session.token()
    describe(asked, guid, cloud)
    cloud.messages.detail(f"pcap api {api}, {reason}")
    guessed = reason.startswith(_DERIVED)
    return Access(api, token, asked.ca, asked.trust, guessed=guessed), target_of(asked, guid)


def reach(asked: CfArguments, options: CaptureOptions, cli: Optional[CfCli] = None) -> Cloud:
    """Check the command line, and read the login.

    Args:
        cli: The cf CLI that started pcapctl; None to read the login from its configuration.

    Raises:
        PcapdError: A mistake on the command line, or there is no login.
    """
    # Report mistakes on the command line before the first request.
    options.request(target_of(asked, asked.app))
    check_files(options)
    if asked.api:
        address_of(asked.api)
    path = config_path(os.environ) if cli is None else Path()
    login = read_login(path) if cli is None else cli.login()
    messages = Messages.of(options)
    if login.ssl_disabled and asked.trust is not Trust.ANYBODY and asked.ca is None:
        messages.note(
            "the cf login used --skip-ssl-validation, which does not apply here: certificates are checked, "
            "also against the CA of --ca FILE, unless --insecure is given"
        )
    client = Client(asked.ca, asked.trust)
    session: TokenSource
    session = CfSession(path, login, client, messages.warn) if cli is None else RpcSession(cli)
    return Cloud(login, session, CloudController(login.target, session, client), messages)


def describe(asked: CfArguments, guid: str, cloud: Cloud) -> None:
    """With --verbose, show what will be captured, and whether the login was refreshed."""
    if cloud.session.refreshed:
        cloud.messages.detail("your cf login was refreshed")
    cloud.messages.detail(_plan(asked, guid, cloud.login))


def find_api(ca: Optional[Path], trust: Trust) -> Tuple[str, str]:
    """The pcap api's URL for the cf CLI's login, and a text that describes how it was found.

    Args:
        ca: File of CA certificates in addition to the system's.
        trust: The CAs that are accepted.

    Raises:
        LoginProblem: The user is not logged in.
        PcapdError: Cloud Controller failed, or its answer is invalid.
    """
    path = config_path(os.environ)
    login = read_login(path)
    client = Client(ca, trust)
    session = CfSession(path, login, client, lambda text: None)
    return _api(None, login, CloudController(login.target, session, client))


def target_of(asked: CfArguments, guid: str, name: str = "") -> CaptureTarget:
    """The target of the capture.

    Args:
        guid: GUID of the app.
        name: Name of the app, if it is known.

    Raises:
        UsageProblem: The request would be invalid.
    """
    try:
        app = App(guid, asked.type, asked.instances)
        return CaptureTarget(app=app, name=name or asked.app, follow=asked.follow)
    except ValueError as error:
        raise UsageProblem(str(error)) from error


def app_guid(app: str, cloud: Cloud) -> str:
    """The GUID of an app.

    Args:
        app: Its name in the targeted space, or already its GUID.

    Raises:
        PcapdError: There is no such app, or Cloud Controller failed.
    """
    login = cloud.login
    if is_guid(app):
        return app
    if not login.space_guid:
        raise LoginProblem("the cf CLI has no targeted space", "choose one with: cf target -o ORG -s SPACE")
    guid = cloud.controller.app_guid(app, login.space_guid)
    if guid is None:
        hint = "cf apps lists the apps of the space; cf target -s SPACE chooses another space"
        raise TargetNotFound(f"there is no app {app!r} in {_space(login)}", hint)
    return guid


def _space(login: Login) -> str:
    space = f"space {login.space or login.space_guid}"
    return f"{space} of org {login.org}" if login.org else space


def _api(given: Optional[str], login: Login, controller: CloudController) -> Tuple[str, str]:
    """The pcap api's URL, and a text that describes how it was found."""
    if given:
        return given, "as given"
    host = urlsplit(login.target).hostname
    link = controller.pcap_link()
    if link is not None:
        check_url(link, f"the pcap link of {host}", "name the api with --api, or PCAP_API")
        return link, f"from the pcap link of {host}"
    derived = pcap_of_api(login.target)
    if derived is None:
        hint = f"set PCAP_API, name its URL with --api, or {VIA_SSH}"
        raise UsageProblem(f"no api is known: {host} has no pcap link, and does not begin with api.", hint)
    return derived, f"{_DERIVED} {host}, which has no pcap link"


def _plan(asked: CfArguments, guid: str, login: Login) -> str:
    place = "by its GUID" if is_guid(asked.app) else f"({guid}) in {_space(login)}"
    follow = ", followed when they move" if asked.follow else ""
    return f"app {asked.app} {place}: {instances_text(asked.instances)} of type {asked.type}{follow}"
