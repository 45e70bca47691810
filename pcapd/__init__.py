"""pcapd: capture network traffic remotely, from many machines at once.

One daemon in two roles, and a client:

* the **agent** opens captures on its machine and streams packets,
* the **api** decides who may capture what, asks the agents, and joins their streams,
* **pcapctl** receives them and writes one file in time order.

The rooms of this house, lowest first; imports point down only
(`tests/unit/test_layers.py`):

``errors``, ``limits``
    every exception; every bound.
``records``, ``savefile``, ``wire``, ``config``
    pure: bytes and values in, bytes and values out.
``capture``
    the only place that touches libpcap, capabilities and namespaces.
``net``
    Twisted glue that both roles share.
``agent`` | ``api`` | ``ctl``
    the two roles and the client; none imports another.
``options``, ``tap``
    where ``twistd pcapd`` and ``pcapd`` put it together.
"""

__all__ = ["COMPATIBILITY_LEVEL", "__version__"]

__version__ = "0.1.0"

#: Level of the wire protocol.  A caller refuses a callee of a lower level.
COMPATIBILITY_LEVEL = 1
