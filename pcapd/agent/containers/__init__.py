"""From an app instance to its container, and from there to its packets.

Pure:

``store``
    what the cell knows of its containers.
``choice``
    the one that is asked for.
``runtime``
    what runc and ``/proc`` say of it.
``cellside``
    its wire's other end.

Blocking, for the opening thread:

``files``, ``commands``
    read within bounds.
``lookup``
    finds the container.
``namespace``
    opens its network namespace.
"""
