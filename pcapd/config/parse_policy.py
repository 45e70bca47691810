"""The parts of an api's configuration that say what may be captured, by whom, and why.  Pure."""

from __future__ import annotations

from typing import Final, get_args

from pcapd.config import checks
from pcapd.config.schema import LabelPlace, OptInConfig, PolicyConfig
from pcapd.config.section import Section
from pcapd.limits import POLICY_FILTERS_LENGTH_MAX, POLICY_FILTERS_MAX

__all__ = ["opt_in", "policy"]

_NO_DEVICES: Final = "an empty list would allow nothing; leave the key out to allow any interface"
_NOBODY: Final = "without label, apps, spaces or organizations nothing could be captured"

_label_place: checks.Check[LabelPlace] = checks.one_of(get_args(LabelPlace))


def policy(section: Section) -> PolicyConfig:
    """Make the rules that apply to every user."""
    exclude = section.optional_items("exclude", checks.exclusion)
    if len(exclude) > POLICY_FILTERS_MAX or sum(map(len, exclude)) > POLICY_FILTERS_LENGTH_MAX:
        section.problem(
            "exclude",
            f"must be at most {POLICY_FILTERS_MAX} filters, of {POLICY_FILTERS_LENGTH_MAX} characters in all",
        )
    devices = section.items("devices", checks.interface, _NO_DEVICES) if section.has("devices") else None
    return PolicyConfig(
        headers_only=section.optional("headers_only", checks.boolean, PolicyConfig.headers_only),
        devices=devices,
        exclude=exclude,
        require_reason=section.optional("require_reason", checks.boolean, PolicyConfig.require_reason),
    )


def opt_in(section: Section) -> OptInConfig:
    """Make the rule about the apps that may be captured at all."""
    found = OptInConfig(
        label=section.optional("label", checks.label, None),
        label_on=section.items("label_on", _label_place, _NOBODY)
        if section.has("label_on")
        else OptInConfig.label_on,
        apps=section.optional_items("apps", checks.guid),
        spaces=section.optional_items("spaces", checks.guid),
        organizations=section.optional_items("organizations", checks.guid),
    )
    if not any(map(section.has, ("label", "apps", "spaces", "organizations"))):
        section.problem("label", f"required: {_NOBODY}")
    if section.has("label_on") and not section.has("label"):
        section.problem("label_on", "needs label")
    return found
