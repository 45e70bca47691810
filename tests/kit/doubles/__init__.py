"""Stand-ins for what a foundation has around us; each follows what the real one does, errors included.

``https``
    what they share: an HTTPS server on a thread.
``cloud_controller``, ``uaa``
    Cloud Controller's V3 API, and the UAA.
``signing``
    a UAA whose tokens that Cloud Controller accepts.
``director``, ``directortasks``
    a BOSH director, with a UAA of its own beside it, and its tasks, which set up ssh.
``agent``
    an agent that captures nothing, and remembers what it was asked.
``hostile_agent``
    an agent that breaks the protocol, as a test scripts it.
``stream_api``
    a pcap api towards its client, scripted frame by frame.
``far_side``
    ssh and a host behind it, honest or not.
``cf_ssh``, ``cf_pcap``
    programs: cf ssh with the diego-sshd behind it, and Diego's capture program in a container.
``recordings``
    a pcap api with one recording, whose answers are cut as a test says.
``syslog``
    receivers of syslog, at a Unix socket and over TLS.
``router``
    gorouter: its time limits, WebSockets and headers.
"""
