"""pcapd: capture network traffic remotely, from many machines at once.

One daemon in two roles, and a client:

* the **agent** opens captures on its machine and streams packets,
* the **api** authorizes captures, starts them on the agents, and joins their streams,
* **pcapctl** receives them and writes one file in time order.

The packages, lowest first; imports point down only (`tests/unit/test_layers.py`):

``errors``, ``limits``
    every exception; every bound.
``packet``, ``records``, ``savefile``, ``merge``, ``analysis``
    pure: from packets to files and findings.
``wire``, ``clouds``, ``config``
    pure: the protocol, the clouds' answers, the configuration.
``capture``
    the only package that uses libpcap, capabilities and namespaces.
``net``
    Twisted code that both roles share.
``agent`` | ``api`` | ``ctl``
    the two roles and the client; none imports another.
``workers``
    an api of several processes: their supervisor.
``options``, ``tap``, ``main``
    build the daemon for ``twistd pcapd`` and ``pcapd``.
"""

__all__ = ["COMPATIBILITY_LEVEL", "__version__"]

__version__ = "0.1.0"

#: Level of the wire protocol.  A caller refuses a callee of a lower level.
COMPATIBILITY_LEVEL = 1
