"""Cloud Controller's V3 API, as much of it as we use, with its errors.

Follows cloud_controller_ng: the root document without a V2 link, 401 with code
10002 or 1000, 404 for what is not visible, pages, process stats in all states
(a DOWN instance has no ``host`` at all), older APIs that do not know some keys.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Optional, Sequence
from urllib.parse import unquote, urlencode

from demo.certificates import Credentials
from tests.kit.doubles.https import Answer, Asked, HttpsDouble

UAA = "https://uaa.sys.example.test"
#: Entries of a page, unless asked otherwise; and the most.
PER_PAGE, PER_PAGE_MAX = 50, 5000


def new_guid() -> str:
    """Make a GUID as Cloud Controller does."""
    return str(uuid.uuid4())


def new_handle() -> str:
    """Make an instance's GUID as Diego's rep does: a GUID cut to 28 characters."""
    return str(uuid.uuid4())[:28]


def cc_error(status: int, code: int, title: str, detail: str = "", *headers: tuple[str, str]) -> Answer:
    """Say no, in Cloud Controller's form."""
    body = {"errors": [{"code": code, "title": f"CF-{title}", "detail": detail or title}]}
    return Answer(status, body, (("X-VCAP-Request-ID", str(uuid.uuid4())), *headers))


UNKNOWN_REQUEST = cc_error(404, 10000, "NotFound", "Unknown request")
NO_AUTHENTICATION = cc_error(401, 10002, "NotAuthenticated", "Authentication error")
INVALID_TOKEN = cc_error(401, 1000, "InvalidAuthToken", "Invalid Auth Token")
NOT_AUTHORIZED = cc_error(403, 10003, "NotAuthorized", "You are not authorized to perform the action")
STATS_UNAVAILABLE = cc_error(503, 200002, "StatsUnavailable", "Stats server temporarily unavailable.")


def rate_limited(seconds: str = "37") -> Answer:
    """Say that it is too much."""
    headers = (("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "0"), ("Retry-After", seconds))
    return cc_error(429, 10013, "RateLimitExceeded", "Rate Limit Exceeded", *headers)


def not_found(what: str) -> Answer:
    """Say that there is none, or that it is not visible: the same."""
    return cc_error(404, 10010, "ResourceNotFound", f"{what} not found")


@dataclass
class Instance:
    """One instance; a crashed or unplaced one has empty values, a DOWN one not even the keys."""

    index: int
    state: str = "RUNNING"
    host: str = "127.0.0.1"
    handle: str = field(default_factory=new_handle)
    address: str = "10.255.93.167"
    uptime: int = 120
    details: Optional[str] = None

    def crash(self) -> None:
        """What the BBS clears on a crash is empty then."""
        self.state, self.host, self.handle, self.address, self.uptime = "CRASHED", "", "", "", 3

    def start_up(self) -> None:
        """Claimed by a cell, and not there yet."""
        self.state, self.host, self.handle, self.address, self.uptime = "STARTING", "", "", "", 1

    def go_down(self, details: Optional[str] = None) -> None:
        """Not placed."""
        self.state, self.details = "DOWN", details

    def restart(self, host: Optional[str] = None) -> None:
        """Run in a new container, perhaps elsewhere."""
        self.state, self.details, self.uptime = "RUNNING", None, 0
        self.host, self.handle = host or self.host, new_handle()
        self.address = self.address or "10.255.93.168"


@dataclass
class Process:
    """One process of an app."""

    type: str = "web"
    instances: list[Instance] = field(default_factory=lambda: [Instance(0)])
    guid: str = field(default_factory=new_guid)
    created_at: str = "2026-01-01T00:00:00Z"


@dataclass
class CfApp:
    """An app in a space."""

    name: str = "myapp"
    processes: list[Process] = field(default_factory=lambda: [Process()])
    guid: str = field(default_factory=new_guid)
    space: str = field(default_factory=new_guid)
    state: str = "STARTED"

    @property
    def instances(self) -> list[Instance]:
        """Of its first process."""
        return self.processes[0].instances


@dataclass
class User:
    """Somebody with roles in spaces.

    Attributes:
        develops: Spaces as a developer, who may read secrets.
        audits: Spaces as an auditor, who sees apps and their stats.
        manages: Organizations as a manager, who sees all that is in their spaces.
        admin: Everything.
        scopes: Of the token.
    """

    name: str = "alice@example.test"
    develops: set[str] = field(default_factory=set)
    audits: set[str] = field(default_factory=set)
    manages: set[str] = field(default_factory=set)
    admin: bool = False
    scopes: tuple[str, ...] = ("cloud_controller.read", "openid")

    @property
    def id(self) -> str:
        """UAA's, the same in all of the user's tokens."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name))

    @property
    def reads_globally(self) -> bool:
        """Whether the scopes show everything, except secrets."""
        scopes = {f"cloud_controller.{name}" for name in ("admin", "admin_read_only", "global_auditor")}
        return self.admin or bool(scopes & set(self.scopes))

    def sees(self, space: str, organization: str) -> bool:
        return self.reads_globally or space in self.develops | self.audits or organization in self.manages

    def reads_secrets(self, app: CfApp) -> bool:
        scopes = {"cloud_controller.admin", "cloud_controller.admin_read_only"}
        return self.admin or app.space in self.develops or bool(scopes & set(self.scopes))

    def roles(self) -> list[tuple[str, str, str]]:
        """Type, kind of place and GUID of each role; scopes are none."""
        return [
            *(("space_developer", "space", guid) for guid in sorted(self.develops)),
            *(("space_auditor", "space", guid) for guid in sorted(self.audits)),
            *(("organization_manager", "organization", guid) for guid in sorted(self.manages)),
        ]


def unsigned_token(**claims: Any) -> str:
    """Make a token that looks like the UAA's; its signature is random."""
    parts = [{"alg": "RS256", "jku": f"{UAA}/token_keys", "kid": "key-1", "typ": "JWT"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, secrets.token_urlsafe(48)])


def expiry(token: str) -> float:
    """When a token ends, in seconds since the epoch."""
    payload = token.split(".")[1]
    return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])


class CloudController(HttpsDouble):
    """Cloud Controller.

    Attributes:
        apps: By GUID.
        users: By their tokens.
        api_version: Decides which keys stats have.
        links: Laid over the root document's; None removes.
        page_size: Entries per page, whatever is asked for.
        log_cache: Whether stats have metrics.
        refusal: The answer to a token that is not accepted.
    """

    def __init__(self, credentials: Credentials, port: int = 0) -> None:
        super().__init__(credentials, port)
        self.apps: dict[str, CfApp] = {}
        self.users: dict[str, User] = {}
        self.api_version = "3.228.0"
        self.links: dict[str, Any] = {}
        #: Name and GUID of each organization, and the spaces in it, by their GUIDs.
        self.organizations: dict[str, str] = {}
        self.spaces: dict[str, tuple[str, str]] = {}
        #: Of apps, spaces and organizations, by their GUIDs.
        self.labels: dict[str, dict[str, str]] = {}
        #: The organization of spaces that are not in `spaces`.
        self.organization = new_guid()
        self.page_size: Optional[int] = None
        self.log_cache = True
        self.refusal = INVALID_TOKEN

    # --- state -------------------------------------------------------------

    def add(self, app: CfApp) -> CfApp:
        """Push an app."""
        self.apps[app.guid] = app
        return app

    def token(self, user: User, **claims: Any) -> str:
        """Give somebody a token that is accepted."""
        given = {
            "iss": f"{UAA}/oauth/token",
            "origin": "uaa",
            "user_id": user.id,
            "user_name": user.name,
            "client_id": "cf",
            "exp": time.time() + 1200,
        }
        token = unsigned_token(jti=secrets.token_hex(16), scope=list(user.scopes), **{**given, **claims})
        self.users[token] = user
        return token

    def developer(self, app: CfApp, name: str = "alice@example.test") -> str:
        """Give a developer of the app's space a token."""
        return self.token(User(name, develops={app.space}))

    def auditor(self, app: CfApp) -> str:
        """Give an auditor of the app's space a token."""
        return self.token(User("auditor@example.test", audits={app.space}))

    def paths(self) -> list[str]:
        """Return what was asked for."""
        return [asked.path for asked in self.asked]

    # --- answers -----------------------------------------------------------

    def answer(self, asked: Asked) -> Answer:
        """Route a request."""
        if asked.path == "/":
            return Answer(body=self.root())
        if asked.path == "/v3/info":
            return Answer(body=self._info())
        user = self._user(asked)
        if isinstance(user, Answer):
            return user
        return self._v3(asked, user)

    def root(self) -> dict[str, Any]:
        """Its root document."""
        links = {
            "self": {"href": self.url},
            "cloud_controller_v3": {"href": f"{self.url}/v3", "meta": {"version": self.api_version}},
            "login": {"href": UAA.replace("uaa", "login")},
            "uaa": {"href": UAA},
            "credhub": None,
            "app_ssh": {"href": "ssh.sys.example.test:2222", "meta": {"oauth_client": "ssh-proxy"}},
            **self.links,
        }
        return {
            "links": {name: link for name, link in links.items() if link is not None or name == "credhub"}
        }

    def _info(self) -> dict[str, Any]:
        """The page that ``cf login`` reads for the CLI's least version; without a token."""
        return {
            "build": "",
            "cli_version": {"minimum": "", "recommended": ""},
            "custom": {},
            "description": "",
            "name": "",
            "version": 0,
            "osbapi_version": "2.15",
            "rate_limits": {"enabled": False, "general_limit": 2000, "reset_interval_in_minutes": 60},
            "links": {"self": {"href": f"{self.url}/v3/info"}, "support": {"href": ""}},
        }

    def _named(self, asked: Asked, entries: list[dict[str, Any]]) -> Answer:
        """A list of organizations or spaces."""
        unknown = set(asked.query) - {"names", "guids", "organization_guids", "page", "per_page", "order_by"}
        if unknown:
            return cc_error(400, 10005, "BadQueryParameter", f"Unknown query parameter(s): {unknown}")
        fields = {"names": "name", "guids": "guid", "organization_guids": "organization"}
        for parameter, field_name in fields.items():
            if parameter in asked.query:
                values = {unquote(value).lower() for value in asked.query[parameter][0].split(",")}
                entries = [entry for entry in entries if entry[field_name].lower() in values]
        return Answer(body=self._page(asked, [self._place(entry) for entry in entries]))

    def _place(self, entry: dict[str, Any]) -> dict[str, Any]:
        organization = entry["organization"]
        relationships = {"organization": {"data": {"guid": organization}}} if organization else {}
        guid = entry["guid"]
        metadata = {"labels": self.labels.get(guid, {}), "annotations": {}}
        described = {"guid": guid, "name": entry["name"], "metadata": metadata}
        return {**described, "relationships": relationships, "links": {}}

    def _user(self, asked: Asked) -> Any:
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if not token:
            return NO_AUTHENTICATION
        user = self.users.get(token)
        if scheme.lower() != "bearer" or user is None or expiry(token) <= time.time():
            return self.refusal
        readers = {"read", "admin", "admin_read_only", "global_auditor"}
        if not any(scope == f"cloud_controller.{reader}" for scope in user.scopes for reader in readers):
            return NOT_AUTHORIZED
        return user

    def _v3(self, asked: Asked, user: User) -> Answer:
        parts = asked.path.strip("/").split("/")
        if parts[:2] == ["v3", "processes"] and len(parts) == 4 and parts[3] == "stats":
            return self._process_stats(parts[2], user)
        if parts == ["v3"]:
            names = ("self", "apps", "organizations", "processes", "spaces")
            links = {name: {"href": f"{self.url}/v3{'' if name == 'self' else f'/{name}'}"} for name in names}
            return Answer(body={"links": links})
        if parts == ["v3", "organizations"]:
            found = [
                {"name": name, "guid": guid, "organization": ""} for name, guid in self.organizations.items()
            ]
            return self._named(asked, found)
        if parts == ["v3", "spaces"]:
            spaces = self.spaces.items()
            return self._named(
                asked, [{"name": name, "guid": guid, "organization": org} for guid, (name, org) in spaces]
            )
        if parts[:2] == ["v3", "spaces"] and len(parts) == 3:
            return self._space(parts[2], user)
        if parts == ["v3", "roles"]:
            return self._roles(asked, user)
        if parts == ["v3", "apps"]:
            return self._apps(asked, user)
        if parts[:2] != ["v3", "apps"] or len(parts) < 3:
            return UNKNOWN_REQUEST
        app = self.apps.get(parts[2])
        if app is None or not self._sees(user, app):
            return not_found("App")
        if len(parts) == 3:
            return self._show(app, asked)
        if parts[3:] == ["permissions"]:
            granted = {"read_basic_data": True, "read_sensitive_data": user.reads_secrets(app)}
            return Answer(body=granted)
        if parts[3:] == ["processes"]:
            return self._processes(app, asked)
        if len(parts) == 6 and parts[3] == "processes" and parts[5] == "stats":
            newest = [process for process in app.processes if process.type == parts[4]][-1:]
            return self._stats(newest[0]) if newest else not_found("Process")
        return UNKNOWN_REQUEST

    def _apps(self, asked: Asked, user: User) -> Answer:
        """The visible ones; a comma separates values, and is escaped twice within one."""
        filters = {"names", "space_guids", "guids"}
        unknown = set(asked.query) - filters - {"page", "per_page", "order_by"}
        if unknown:
            return cc_error(400, 10005, "BadQueryParameter", f"Unknown query parameter(s): {unknown}")
        wanted = {
            name: {unquote(value).lower() for value in values[0].split(",")}
            for name, values in asked.query.items()
            if name in filters
        }

        def fits(app: CfApp) -> bool:
            values = {"names": app.name.lower(), "space_guids": app.space, "guids": app.guid}
            return self._sees(user, app) and all(values[name] in allowed for name, allowed in wanted.items())

        return Answer(body=self._page(asked, [self._app(app) for app in self.apps.values() if fits(app)]))

    def organization_of(self, space: str) -> str:
        """The GUID of a space's organization."""
        return self.spaces.get(space, ("", self.organization))[1]

    def _sees(self, user: User, app: CfApp) -> bool:
        return user.sees(app.space, self.organization_of(app.space))

    def _space(self, guid: str, user: User) -> Answer:
        everybody = self.users.values()
        used = {app.space for app in self.apps.values()}.union(
            *(one.develops | one.audits for one in everybody)
        )
        organization = self.organization_of(guid)
        if guid not in used | set(self.spaces) or not user.sees(guid, organization):
            return not_found("Space")
        name = self.spaces.get(guid, ("space", ""))[0]
        return Answer(body=self._place({"guid": guid, "name": name, "organization": organization}))

    def _roles(self, asked: Asked, user: User) -> Answer:
        """Roles in what the user sees (roles_controller.rb, role_list_fetcher.rb, role_presenter.rb).

        A space role has no organization and the reverse, so that a filter of both finds nothing.
        """
        filters = {"user_guids": "user", "space_guids": "space", "organization_guids": "organization"}
        unknown = set(asked.query) - {*filters, "types", "include", "page", "per_page", "order_by"}
        if unknown:
            return cc_error(422, 10008, "UnprocessableEntity", f"Unknown query parameter(s): {unknown}")
        wanted = {
            name: {unquote(value) for value in values[0].split(",")} for name, values in asked.query.items()
        }
        people = {one.id: one for one in self.users.values()}
        found = []
        for id, one in people.items():
            for type, kind, guid in one.roles():
                organization = self.organization_of(guid) if kind == "space" else guid
                places = {"user": id, "space": None, "organization": None, kind: guid}
                fits = all(places[key] in wanted.get(name, {places[key]}) for name, key in filters.items())
                seen = user.sees(guid if kind == "space" else "", organization)
                if seen and fits and type in wanted.get("types", {type}):
                    found.append(self._role(type, places))
        return Answer(body=self._page(asked, found))

    def _role(self, type: str, places: dict[str, Optional[str]]) -> dict[str, Any]:
        guid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{type} {places}"))
        related = {kind: {"data": {"guid": one} if one else None} for kind, one in places.items()}
        return {
            "guid": guid,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "type": type,
            "relationships": related,
            "links": {"self": {"href": f"{self.url}/v3/roles/{guid}"}},
        }

    def _show(self, app: CfApp, asked: Asked) -> Answer:
        """An app, with its space and organization if asked for (app_show_message.rb)."""
        include = asked.query.get("include", [""])[0]
        if set(asked.query) - {"include"} or include not in ("", "space,space.organization"):
            return cc_error(400, 10005, "BadQueryParameter", "The query parameter is invalid")
        body = self._app(app)
        if include:
            name, organization = self.spaces.get(app.space, ("space", self.organization))
            place = {"guid": app.space, "name": name, "organization": organization}
            above = {"guid": organization, "name": "org", "organization": ""}
            body["included"] = {"spaces": [self._place(place)], "organizations": [self._place(above)]}
        return Answer(body=body)

    def _app(self, app: CfApp) -> dict[str, Any]:
        space = {"data": {"guid": app.space}}
        return {
            "guid": app.guid,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "name": app.name,
            "state": app.state,
            "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}},
            "relationships": {"space": space, "current_droplet": {"data": {"guid": new_guid()}}},
            "metadata": {"labels": self.labels.get(app.guid, {}), "annotations": {}},
            "links": {"self": {"href": f"{self.url}/v3/apps/{app.guid}"}},
        }

    def _processes(self, app: CfApp, asked: Asked) -> Answer:
        unknown = set(asked.query) - {"types", "page", "per_page", "order_by", "guids"}
        if unknown:
            return cc_error(400, 10005, "BadQueryParameter", f"Unknown query parameter(s): {unknown}")
        types = asked.query.get("types", [""])[0].split(",")
        processes = [process for process in app.processes if types == [""] or process.type in types]
        return Answer(body=self._page(asked, [self._process(app, process) for process in processes]))

    def _process(self, app: CfApp, process: Process) -> dict[str, Any]:
        return {
            "guid": process.guid,
            "created_at": process.created_at,
            "updated_at": process.created_at,
            "version": new_guid(),
            "type": process.type,
            "command": None,
            "instances": len(process.instances),
            "memory_in_mb": 256,
            "relationships": {"app": {"data": {"guid": app.guid}}, "revision": None},
            "links": {"stats": {"href": f"{self.url}/v3/processes/{process.guid}/stats"}},
        }

    def _page(self, asked: Asked, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        asked_for = int(asked.query.get("per_page", [str(PER_PAGE)])[0])
        size = self.page_size or min(asked_for, PER_PAGE_MAX)
        page = int(asked.query.get("page", ["1"])[0])
        pages = max(1, -(-len(entries) // size))
        filters = {
            name: values[0] for name, values in asked.query.items() if name not in ("page", "per_page")
        }

        def href(number: int) -> dict[str, str]:
            query = urlencode({**filters, "page": number, "per_page": size})
            return {"href": f"{self.url}{asked.path}?{query}"}

        pagination = {
            "total_results": len(entries),
            "total_pages": pages,
            "first": href(1),
            "last": href(pages),
            "next": href(page + 1) if page < pages else None,
            "previous": href(page - 1) if page > 1 else None,
        }
        return {"pagination": pagination, "resources": list(entries[(page - 1) * size : page * size])}

    def _process_stats(self, guid: str, user: User) -> Answer:
        for app in self.apps.values():
            for process in app.processes:
                if process.guid == guid and self._sees(user, app):
                    return self._stats(process)
        return not_found("Process")

    def _stats(self, process: Process) -> Answer:
        instances = sorted(process.instances, key=lambda instance: instance.index)
        entries = [self._instance(process, instance) for instance in instances]
        warnings = () if self.log_cache else (("X-Cf-Warnings", "Stats+server+temporarily+unavailable."),)
        return Answer(body={"resources": entries}, headers=warnings)

    def _instance(self, process: Process, instance: Instance) -> dict[str, Any]:
        common = {
            "type": process.type,
            "index": instance.index,
            "state": instance.state,
            "routable": instance.state == "RUNNING" or None,
            "uptime": instance.uptime,
            "isolation_segment": None,
            "details": instance.details,
        }
        if instance.state == "DOWN":
            return {**common, "uptime": 0}
        version = tuple(int(part) for part in self.api_version.split("."))
        metrics = {
            "time": "2026-11-23T04:26:00Z",
            "cpu": 0.01,
            "mem": 1048576,
            "disk": 2097152,
            "log_rate": 0,
        }
        return {
            **common,
            **({"instance_guid": instance.handle} if version >= (3, 192, 0) else {}),
            **({"instance_internal_ip": instance.address} if version >= (3, 149, 0) else {}),
            "usage": metrics if self.log_cache else {},
            "host": instance.host,
            "instance_ports": [
                {
                    "external": None,
                    "internal": 8080,
                    "external_tls_proxy_port": 61012,
                    "internal_tls_proxy_port": 61001,
                }
            ],
            "mem_quota": 268435456,
            "disk_quota": 1073741824,
            "fds_quota": 16384,
            "log_rate_limit": -1,
        }
