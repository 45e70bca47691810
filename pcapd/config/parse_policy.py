"""The section ``policy`` of an api's configuration: what may be captured, by whom, and why."""

from __future__ import annotations

from typing import Final

from pcapd.config import checks
from pcapd.config.schema import PolicyConfig
from pcapd.config.section import Section
from pcapd.limits import POLICY_FILTERS_LENGTH_MAX, POLICY_FILTERS_MAX

__all__ = ["policy"]

_NO_DEVICES: Final = "an empty list would allow nothing; leave the key out to allow any interface"


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
