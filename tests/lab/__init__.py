"""A lab of hosts on one machine, for tests, benchmarks and the quickstart.

``certificates``
    a throw-away authority and what it issues, good and bad.
``namespaces``
    hosts: network namespaces, and links between two of them.
``traffic``
    real HTTP between two hosts.
``generator``
    numbered and time-stamped UDP packets at a chosen rate, from a C program.
``configurations``
    what the lab's daemons are configured with, and changes to it.
``daemons``
    the agent and the api as separate processes, and `Lab`, which has it all.
``containers``
    a Diego cell: runc containers, silk's wires, the metadata store.
``callers``
    the api's part of a conversation with an agent, played by a test.
``readers``
    tshark, capinfos and tcpdump as independent readers of what we wrote.
``processes``
    running commands, stopping processes, sampling what they use.
``quickstart``
    what ``bin/quickstart`` runs.

Nothing is imported here, so that each runs as ``python -m tests.lab.NAME``.
"""
