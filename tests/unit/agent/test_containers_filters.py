"""A filter seen from the other end of a wire."""

from __future__ import annotations

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from pcapd.capture.bpf import mirrored
from pcapd.errors import BadFilter


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("", ""),
        ("tcp port 8080", "tcp port 8080"),
        ("inbound", "outbound"),
        ("not(outbound)and tcp", "not(inbound)and tcp"),
        ("inbound or (outbound and udp)", "outbound or (inbound and udp)"),
        (
            "src host 10.0.0.1 and ether src ee:ee:0a:ff:5d:01",
            "src host 10.0.0.1 and ether src ee:ee:0a:ff:5d:01",
        ),
        ("port inbounds", "port inbounds"),
        ("tcp[13] & 2 != 0", "tcp[13] & 2 != 0"),
    ],
)
def test_only_directions_change(inside: str, outside: str) -> None:
    """Mirroring a filter changes its directions only, both ways."""
    assert mirrored(inside) == outside
    assert mirrored(outside) == inside


@pytest.mark.parametrize("text", ["ifname eth0", "tcp and on eth0", "dir in", "direction out"])
def test_what_has_no_counterpart(text: str) -> None:
    """A filter without a counterpart on the other side is refused."""
    with pytest.raises(BadFilter):
        mirrored(text)


@given(st.text(alphabet="inoutbd ()!&|0123.:[]ab\\-_", max_size=60))
def test_twice_is_the_same(text: str) -> None:
    """A filter that is turned to the other end twice is the original one."""
    try:
        once = mirrored(text)
    except BadFilter:  # such as "on", which has no counterpart
        reject()
    assert mirrored(once) == text
