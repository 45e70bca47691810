"""What ``bin/quickstart`` runs: two hosts, traffic, an agent, an api, throw-away certificates.

``quickstart``
    the whole chain on one machine, in ten seconds.
``certificates``
    a throw-away authority and what it issues, good and bad.
``namespaces``
    hosts: network namespaces, and links between two of them.
``offloads``
    switches the offloads of a link off.
``traffic``
    real HTTP between two hosts.
``configurations``
    what the daemons are configured with, and changes to it.
``daemons``
    the agent and the api as separate processes, and `Lab`, which has it all.
``processes``
    running commands, stopping processes, sampling what they use.

The tests use it too; it uses nothing of the tests.
Nothing is imported here, so that each runs as ``python -m demo.NAME``.
"""
