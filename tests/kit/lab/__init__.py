"""A lab of hosts on one machine, for tests and benchmarks; `demo` has the hosts and the daemons.

``generator``
    numbered and time-stamped UDP packets at a chosen rate, from a C program.
``containers``
    a Diego cell: runc containers, silk's wires, the metadata store.
``callers``
    the api's part of a conversation with an agent, played by a test.
``readers``
    tshark, capinfos and tcpdump as independent readers of what we wrote.

Nothing is imported here, so that each runs as ``python -m tests.kit.lab.NAME``.
"""
