"""Stand-ins for what surrounds one package, for tests/unit.

``agent``
    interfaces, sources and the api's end of a session.
``api``
    agents, sinks and HTTP connections.
``authorities``
    Cloud Controller, the UAA and a director, without sockets.
``ctl``
    the web, as pcapctl's logins see it.
``net``
    both ends of a TLS connection.
``savefile``
    savefiles that tshark and its friends read.
"""
