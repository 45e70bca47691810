"""Twisted glue that the agent and the api share.

``transport``
    TLS straight on the socket: what the bulk legs run on.
``ports``
    listening, for so many connections and no more; who keeps a place, and who loses it.
``tls``
    contexts from the configuration, and the check of a peer's name.
``framed``
    protocol base: a wire session on a transport, with liveness and backpressure.
``logs``
    JSON lines on stderr, without secrets, and the audit log's file.
``tally``
    log lines that anybody can cause: the first at once, the others summed up.
``daemon``
    a service that listens, drains and reloads.
"""
