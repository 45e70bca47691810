"""Stand-ins for what a foundation has around us; each follows what the real one does, errors included.

``https``
    what they share: an HTTPS server on a thread.
``cloud_controller``, ``uaa``
    Cloud Controller's V3 API, and the UAA.
``director``
    a BOSH director, with a UAA of its own beside it.
``agent``
    an agent that captures nothing, and remembers what it was asked.
``hostile_agent``
    an agent that breaks the protocol, as a test scripts it.
``stream_api``
    a pcap api towards its client, scripted frame by frame.
``recordings``
    a pcap api with one recording, whose answers are cut as a test says.
``syslog``
    receivers of syslog, at a Unix socket and over TLS.
``router``
    gorouter: its time limits, WebSockets and headers.
"""
