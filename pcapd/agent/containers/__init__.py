"""Finds the container of an app instance, and the namespace or interface to capture it from.

Pure:

``store``
    the cell's records of its containers.
``choice``
    chooses the requested container.
``runtime``
    parses what runc and ``/proc`` report about a container's process.
``cellside``
    the cell's end of a container's veth pair.

Blocking, for the opening thread:

``files``, ``commands``
    read files and run commands, with limits of size and time.
``lookup``
    finds the container.
``namespace``
    opens a container's network namespace.
"""
