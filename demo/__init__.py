"""The demonstration of ``bin/quickstart``: two hosts, traffic, an agent, an api, throw-away certificates.

``quickstart``
    the whole chain on one machine, in ten seconds.
``certificates``
    a throw-away CA that issues valid and invalid certificates.
``namespaces``
    hosts: network namespaces, and links between them.
``offloads``
    switches off the offloads of a link.
``traffic``
    real HTTP between two hosts.
``configurations``
    configurations of the daemons, and changes to them.
``daemons``
    the agent and the api as separate processes, and `Lab`, which combines everything.
``processes``
    runs commands, stops processes, and samples their resource usage.

The tests use this package too; it does not use the tests.
It imports none of its modules, so that each runs as ``python -m demo.NAME``.
"""
