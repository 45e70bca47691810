"""Networking on Twisted that the agent and the api share.

``transport``
    TLS directly on the socket, for the bulk connections.
``receiving``
    decrypts received bytes directly into their final buffer.
``outgoing``
    makes outgoing TLS connections.
``sendqueue``
    bytes that wait to be sent, joined to pieces of the size of TLS records; pure.
``sockets``
    socket options, addresses, and error messages.
``ports``
    listening ports that hold a bounded number of connections.
``tls``
    TLS contexts from the configuration, and the check of a peer's name.
``reactor``
    the types of the reactor.
``fetch``
    HTTPS requests with limits of bytes and time.
``httpserver``
    a client's HTTP connection: one request at a time, with a time limit for each step.
``pages``
    pages of HTTP servers, and error bodies.
``metrics``
    numbers for Prometheus that both roles have.
``metricspage``
    the listener for Prometheus.
``turns``
    a queue that serves its clients in turn.
``addresses``
    IP addresses of connections and of this machine.
``clock``
    monotonic timers, and deadlines that allow for pauses of this process.
``framed``
    base class of protocols: a wire session on a transport; disconnects silent peers.
``logs``
    JSON lines on stderr, without secrets, and the audit log's file.
``syslog``
    sends audit records to syslog, over a Unix socket or TLS.
``tally``
    limits the number of log lines that a peer can cause.
``daemon``
    a service that listens, drains and reloads.
"""
