"""Twisted glue that the agent and the api share.

``transport``
    TLS straight on the socket: what the bulk legs run on.
``receiving``
    decrypts what arrives to where it belongs.
``outgoing``
    the same for connections that we make.
``sendqueue``
    what waits to be sent, joined to a size that suits TLS; pure.
``sockets``
    what sockets are told, and what they say, in our words.
``ports``
    listening, for a bounded number of connections, and which of them are closed for others.
``tls``
    contexts from the configuration, and the check of a peer's name.
``reactor``
    the types of the reactor that is passed in.
``fetch``
    HTTP requests to an authority, bounded in bytes and time.
``turns``
    a fair queue: who waits, and whose turn it is.
``addresses``
    IP addresses of connections and of this machine.
``clock``
    time that nobody sets, and deadlines that know our own pauses.
``framed``
    protocol base: a wire session on a transport, with liveness and backpressure.
``logs``
    JSON lines on stderr, without secrets, and the audit log's file.
``tally``
    log lines that a peer can cause at will: the first at once, the others summed up.
``daemon``
    a service that listens, drains and reloads.
"""
