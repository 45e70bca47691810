"""What a file says about a source: its description, and the names of its addresses."""

from __future__ import annotations

import ipaddress
from typing import List, Tuple

from pcapd.wire import Source

__all__ = ["describe", "names"]


def describe(source: Source, *, aligned: bool = False) -> str:
    """A readable description of a source.

    Args:
        aligned: Whether the packets' times are corrected by the source's clock offset.
    """
    text = f"agent {source.agent}" if source.agent else "over ssh"
    if source.agent_address:
        text += f" at {source.agent_address}"
    if source.headers_only:
        text += ", headers only"
    if source.clock_offset_us is not None:
        name = "corrected clock error" if aligned else "clock offset"
        text += f", {name} {source.clock_offset_us / 1000:+.3f}"
        if source.clock_error_us is not None:
            text += f" ± {source.clock_error_us / 1000:.3f}"
        text += " ms"
    return text


def names(source: Source) -> List[Tuple[str, str]]:
    """Each address of the source with the instance's name, except loopback and link-local addresses."""
    found = []
    for text in source.addresses:
        address = ipaddress.ip_interface(text).ip
        if not address.is_loopback and not address.is_link_local:
            found.append((str(address), source.instance))
    return found
