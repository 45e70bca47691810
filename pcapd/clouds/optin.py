"""Decides whether an app has opted in to captures, from Cloud Controller's answer.  Pure.

Source: the V3 API documentation: ``GET /v3/apps/GUID?include=space,space.organization``
answers with the app, its space and its organization, each with its labels.  Anybody who may
change the app sets its labels (a space developer); those of a space or an organization need
its manager.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from pcapd.clouds.reading import AnswerReader
from pcapd.errors import Forbidden

__all__ = ["INCLUDE", "OptIn", "Place", "places_of"]

_ANSWER = AnswerReader("Cloud Controller's")
#: The query with which the answer about an app has what `places_of` reads.
INCLUDE = "include=space,space.organization"


class Place(NamedTuple):
    """An app, its space, or its organization.

    Attributes:
        kind: ``app``, ``space`` or ``organization``.
        labels: Its labels.
    """

    kind: str
    guid: str
    labels: Dict[str, str]


class OptIn(NamedTuple):
    """The operator's rule.

    Attributes:
        label: Key and value of a label, or None.
        label_on: The kinds of places on which the label counts.
        allowed: GUIDs of the apps, spaces and organizations that are listed, by kind.
    """

    label: Optional[Tuple[str, str]]
    label_on: Sequence[str]
    allowed: Mapping[str, Sequence[str]]

    def check(self, name: str, places: Sequence[Place]) -> None:
        """Refuse an app that neither has the label nor is listed.

        Args:
            name: The app's name, for the message.
            places: The app, its space and its organization.

        Raises:
            Forbidden: The app has not opted in.
        """
        for place in places:
            if place.guid in self.allowed.get(place.kind, ()):
                return
            if place.kind in self.label_on and self.label in list(place.labels.items()):
                return
        if self.label is None:
            raise Forbidden(
                f"app {name} may not be captured: the api's operator allows only listed apps",
                "ask the operator to add it",
            )
        label, kinds = "=".join(self.label), list(self.label_on)
        where = " or ".join(kinds)
        raise Forbidden(
            f"app {name} has not opted in to captures: it lacks the label {label} (on its {where})",
            f"set it with: cf set-label {'org' if kinds[0] == 'organization' else kinds[0]} NAME {label}",
        )


def places_of(body: bytes) -> Tuple[Place, ...]:
    """Read the app, its space and its organization from the answer about the app with `INCLUDE`.

    Only the space that the app names, and only the organization that this space names, count.

    Raises:
        ResolverUnavailable: The answer is not valid.
    """
    app = _ANSWER.mapping(body, "an app")
    included = _ANSWER.member(app, "included", dict, "an app")
    places = [_place("app", app)]
    inner = app
    for kind, relation in (("space", "space"), ("organization", "organization")):
        guid = _related(inner, relation)
        entries = _ANSWER.entries(included.get(f"{kind}s"), f"the app's {kind}")
        found = [entry for entry in entries if entry.get("guid") == guid]
        if len(found) != 1:
            raise _ANSWER.nonsense(f"the app's {kind}")
        inner = found[0]
        places.append(_place(kind, inner))
    return tuple(places)


def _place(kind: str, entry: Dict[str, Any]) -> Place:
    metadata = _ANSWER.member(entry, "metadata", dict, f"labels of the {kind}")
    labels = _ANSWER.member(metadata, "labels", dict, f"labels of the {kind}")
    texts = {key: value for key, value in labels.items() if isinstance(value, str)}
    return Place(kind, _ANSWER.member(entry, "guid", str, kind), texts)


def _related(entry: Dict[str, Any], relation: str) -> str:
    relationships = _ANSWER.member(entry, "relationships", dict, relation)
    data = _ANSWER.member(_ANSWER.member(relationships, relation, dict, relation), "data", dict, relation)
    return _ANSWER.member(data, "guid", str, relation)
