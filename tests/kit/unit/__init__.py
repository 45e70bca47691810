"""Stand-ins for what surrounds one package, for tests/unit.

``agent``
    interfaces, sources and the api's end of a session.
``api``, ``front``
    agents and sinks of a capture, and HTTP requests in memory.
``authorities``
    Cloud Controller, the UAA and a director, without sockets.
``config``
    the least configurations.
``ctl``
    the web, as pcapctl's logins see it.
``net``
    both ends of a TLS connection.
``recordings``
    an api with recordings, without threads.
``transport``
    one end of a connection in memory.
``savefile``
    savefiles, and the programs that read them.
"""
