"""Run pcapd with an interface's rx_dropped counted as packets that it lost.

No interface that can be made here counts rx_missed_errors or rx_fifo_errors: that
takes a real card.  rx_dropped of a veth pair is a real counter of the same
structure, which a test can make grow.

::

    daemon.below = interfacedrops.COMMAND
"""

from __future__ import annotations

import runpy
import sys

COMMAND = (sys.executable, __file__)

_RX_DROPPED = 6 * 8  # offset in struct rtnl_link_stats64

if __name__ == "__main__":
    from pcapd.capture import interfaces

    assert interfaces._RX_LOST
    interfaces._RX_LOST = (_RX_DROPPED,)  # type: ignore[assignment]
    python, _, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
