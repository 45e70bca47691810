"""From an app instance to its container, and from there to its packets.

Pure: ``store`` reads what the cell knows of its containers, ``choice`` picks
the one that is asked for, ``runtime`` reads what runc and ``/proc`` say of it,
``cellside`` names its wire's other end.

Blocking, for the opening thread: ``files`` and ``commands`` read within
bounds, ``lookup`` finds the container, and ``namespace`` opens its network
namespace.
"""
