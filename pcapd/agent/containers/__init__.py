"""Finds the container of an app instance, and the place where its packets can be captured.

Pure:

``store``
    the cell's records of its containers.
``choice``
    chooses the requested container.
``runtime``
    what runc and ``/proc`` report about its process.
``cellside``
    the cell's end of its veth pair.

Blocking, for the opening thread:

``files``, ``commands``
    read files and run commands within bounds.
``lookup``
    finds the container.
``namespace``
    opens its network namespace.
"""
