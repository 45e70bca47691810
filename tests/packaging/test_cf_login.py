"""``cf login`` at our doubles, with the real cf CLI where PCAPD_TEST_CF names one, else what it asks."""

from __future__ import annotations

import base64
import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator, Optional
from urllib.parse import urlencode

import pytest

from demo.certificates import Authority
from demo.configurations import LOCAL
from demo.processes import run
from pcapd.ctl.login.cflogin import read_login
from tests.kit.doubles.cloud_controller import CfApp, CloudController, User, new_guid
from tests.kit.doubles.uaa import Uaa

PASSWORD = "a good one"


class World:
    """Cloud Controller, UAA, and alice, who develops one app."""

    def __init__(self, cc: CloudController, uaa: Uaa, authority: Authority) -> None:
        self.cc, self.uaa, self.ca = cc, uaa, authority.certificate_path
        organization, space = new_guid(), new_guid()
        cc.organizations = {"acme": organization, "other": new_guid()}
        cc.spaces = {space: ("dev", organization)}
        cc.add(CfApp(name="myapp", space=space))
        cc.links = {"login": {"href": uaa.url}, "uaa": {"href": uaa.url}}
        uaa.passwords = {"alice": PASSWORD}
        self.space = space
        uaa.logged_in = lambda user, token: cc.users.update({token: User(user, develops={space})})

    def ask(self, url: str, token: str = "", form: Optional[dict[str, str]] = None) -> dict[str, Any]:
        """Ask as the cf CLI does."""
        headers = {"Accept": "application/json", "Authorization": f"bearer {token}" if token else ""}
        if form is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(b"cf:").decode()
        data = urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(url, data, {name: value for name, value in headers.items() if value})
        context = ssl.create_default_context(cafile=str(self.ca))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        return json.loads(opener.open(request, timeout=10).read())  # type: ignore[no-any-return]


@pytest.fixture
def world(authority: Authority) -> Iterator[World]:
    """Everything that a login needs."""
    credentials = authority.issue("cf-login", dns=("localhost",), ips=(LOCAL,))
    with Uaa(credentials) as uaa, CloudController(credentials) as cc:
        yield World(cc, uaa, authority)


def test_what_a_login_asks(world: World) -> None:
    """A login asks for root, info, prompts, the password grant, organizations and spaces, in this order."""
    api = world.cc.url
    login = world.ask(f"{api}/")["links"]["login"]["href"]
    assert "cli_version" in world.ask(f"{api}/v3/info")
    page = world.ask(f"{login}/login")
    assert page["prompts"]["password"] == ["password", "Password"] and page["app"]["version"]
    form = {"grant_type": "password", "username": "alice", "password": "wrong"}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        world.ask(f"{login}/oauth/token", form=form)
    token = world.ask(f"{login}/oauth/token", form={**form, "password": PASSWORD})["access_token"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        world.ask(f"{api}/v3/organizations")
    assert "spaces" in world.ask(f"{api}/v3", token)["links"]
    (organization,) = world.ask(f"{api}/v3/organizations?names=acme", token)["resources"]
    query = f"names=dev&organization_guids={organization['guid']}"
    (space,) = world.ask(f"{api}/v3/spaces?{query}", token)["resources"]
    assert space["guid"] == world.space


@pytest.mark.realcf
def test_the_real_one(world: World, tmp_path: Path) -> None:
    """The real ``cf login`` works against the doubles, and pcapctl reads the file that it writes."""
    binary = os.environ.get("PCAPD_TEST_CF")
    if not binary:
        pytest.skip("PCAPD_TEST_CF names no cf CLI")
    environ = {**os.environ, "CF_HOME": str(tmp_path), "SSL_CERT_FILE": str(world.ca)}
    words = ["login", "-a", world.cc.url, "-u", "alice", "-p", PASSWORD, "-o", "acme", "-s", "dev"]
    run([binary, *words], env=environ)
    login = read_login(tmp_path / ".cf" / "config.json")
    assert (login.org, login.space, login.space_guid) == ("acme", "dev", world.space)
