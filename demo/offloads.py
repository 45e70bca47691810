"""Switch off the offloads that make captured packets differ from those on a real network.

A veth interface leaves checksums empty and passes on segments of up to 64 KiB.
Run this script inside the namespace of the interfaces (ethtool does the same,
but is not installed everywhere)::

    python demo/offloads.py eth0
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
# Values of <linux/ethtool.h>: transmit checksums, scatter-gather, and the
# segmentation and receive offloads that need them.
ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO = 0x17, 0x1F, 0x24, 0x2C
SEGMENTATION = (ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO)


def switch_off(device: str) -> None:
    """Switch off the offloads of one interface; those that the driver does not support stay."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (*SEGMENTATION, ETHTOOL_STXCSUM):
            value = array.array("I", [command, 0])
            request = struct.pack("16sP", device.encode(), value.buffer_info()[0])
            try:
                fcntl.ioctl(control, SIOCETHTOOL, request)
            except OSError as error:
                print(f"{device}: offload {command:#x} stays: {error}", file=sys.stderr)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        switch_off(name)
