"""Twisted glue that the agent and the api share.

``transport``
    TLS straight on the socket: what the bulk legs run on.
``ports``
    listening, for a bounded number of connections, and which of them are closed for others.
``tls``
    contexts from the configuration, and the check of a peer's name.
``framed``
    protocol base: a wire session on a transport, with liveness and backpressure.
``logs``
    JSON lines on stderr, without secrets, and the audit log's file.
``tally``
    log lines that a peer can cause at will: the first at once, the others summed up.
``daemon``
    a service that listens, drains and reloads.
"""
