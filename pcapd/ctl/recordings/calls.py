"""The requests about recordings (DESIGN: ``/v1/recordings``)."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import quote

from pcapd.ctl.options import Access, UsageProblem
from pcapd.ctl.stream.connection import address_of
from pcapd.ctl.stream.health import answered, no_api
from pcapd.errors import BadRequest, RequestError, TargetNotFound

__all__ = ["RUNNING", "clip", "delete", "find", "hook", "listed", "page", "show", "start", "stop"]

Values = Dict[str, Any]

#: States of a recording that may still grow.
RUNNING = ("starting", "recording")
_PAGE = "/v1/recordings"
_WHOLE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def page(id: str, *rest: str) -> str:
    """The path of a recording, or of something below it."""
    return "/".join([_PAGE, quote(id, safe=""), *rest])


def start(access: Access, body: Mapping[str, Any]) -> Values:
    """Start a recording.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    try:
        return answered(access, _PAGE, "id", "POST", body)
    except RequestError as error:
        if isinstance(error, (BadRequest, TargetNotFound)):
            listed(access)  # raises if the api keeps no recordings
        raise


def listed(access: Access) -> Values:
    """The user's recordings.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    try:
        body = answered(access, _PAGE, "recordings")
    except TargetNotFound as error:  # there is no such page
        raise TargetNotFound("this api keeps no recordings", "its operator can configure a store") from error
    entries = body["recordings"]
    if not isinstance(entries, list) or not all(_sound(entry) for entry in entries):
        raise no_api(access)
    return body


def _sound(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), str)


def find(access: Access, prefix: str) -> str:
    """The id that begins so.  A whole id may be that of a recording which is not listed.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request, or there is no such recording.
        UsageProblem: Several begin so.
    """
    if _WHOLE.fullmatch(prefix):
        return prefix
    ids: List[str] = [entry["id"] for entry in listed(access)["recordings"]]
    found = [id for id in ids if id.startswith(prefix)]
    if not found or not prefix:
        raise TargetNotFound(f"you have no recording {prefix!r}", "pcapctl recordings lists them")
    if len(found) > 1:
        raise UsageProblem(f"{len(found)} recordings begin with {prefix!r}", f"they are {', '.join(found)}")
    return found[0]


def show(access: Access, id: str) -> Values:
    """One recording.

    Raises:
        ApiUnreachable: There was no answer, or the server is not an api.
        RequestError: The api refused the request.
    """
    return answered(access, page(id), "id")


def stop(access: Access, id: str) -> Values:
    """End a recording in good order; raises like `show`."""
    return answered(access, page(id, "stop"), "id", "POST")


def delete(access: Access, id: str) -> None:
    """Delete a recording with its packets and clips; raises like `show`."""
    answered(access, page(id), "deleted", "DELETE")


def clip(
    access: Access, id: str, before: Optional[int], after: Optional[int], reason: Optional[str]
) -> Values:
    """Keep what is around this moment; raises like `show`.

    Args:
        before: Seconds before this moment; after: seconds after it; None for the api's defaults.
    """
    given = {"before": before, "after": after, "reason": reason}
    body = {name: value for name, value in given.items() if value is not None}
    return answered(access, page(id, "clip"), None, "POST", body)


def hook(access: Access, id: str) -> Values:
    """The URL and a new key for an alert manager, which replaces an older one; raises like `show`."""
    found = answered(access, page(id, "hook"), "hook", "POST")["hook"]
    if not isinstance(found, dict) or not isinstance(found.get("key"), str):
        raise no_api(access)
    # The api does not know by which name it is reached.
    path = str(found.get("path") or f"/v1/hooks/{id}")
    secure, host, port, root = address_of(access.api)
    name = f"[{host}]" if ":" in host else host
    place = name if port == (443 if secure else 80) else f"{name}:{port}"
    url = found.get("url") or f"{'https' if secure else 'http'}://{place}{root}{path}"
    return {"url": str(url), "key": found["key"]}
