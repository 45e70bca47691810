"""What tests share; each is imported by its whole name, `tests.kit.…`.

``doubles``
    stand-ins for the peers of our programs: agents, apis, Cloud Controller, the UAA, directors.
``lab``
    packets at a rate, containers, attackers, faults, and other programs that read our files.
``hosts``
    our daemons and their surroundings, for tests/hosts.
``unit``
    stand-ins for what surrounds one package, for tests/unit.
``files``, ``packets``, ``segments``, ``tunnels``, ``record_samples``
    pcapng blocks, packets, TCP conversations, encapsulations and records, written out by the book.
``http2``
    connections of HTTP/2 as packets.
``implementations``
    the compiled and the plain form of a module.
``monitoring``
    the alerts and the dashboard of etc, and what their queries name.
``imports``
    the imports of our modules, read from the sources.
"""
