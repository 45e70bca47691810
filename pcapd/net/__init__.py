"""Twisted glue that the agent and the api share.

``transport``
    TLS directly on the socket, for the bulk connections.
``receiving``
    decrypts received bytes directly into their final buffer.
``outgoing``
    the same for outgoing connections.
``sendqueue``
    bytes that wait to be sent, joined to a size that suits TLS; pure.
``sockets``
    socket options, addresses, and error messages.
``ports``
    listening ports that hold a bounded number of connections.
``tls``
    TLS contexts from the configuration, and the check of a peer's name.
``reactor``
    the types of the reactor.
``fetch``
    HTTP requests to an authority, bounded in bytes and time.
``turns``
    a fair queue, in which clients take turns.
``addresses``
    IP addresses of connections and of this machine.
``clock``
    monotonic timers, and deadlines that allow for our own pauses.
``framed``
    protocol base: a wire session on a transport, with liveness and backpressure.
``logs``
    JSON lines on stderr, without secrets, and the audit log's file.
``tally``
    sums up log lines that a peer can cause at will.
``daemon``
    a service that listens, drains and reloads.
"""
