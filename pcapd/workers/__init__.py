"""Several api processes of one machine that serve one port (``workers`` of the configuration).

::

    supervisor ──starts, SIGTERM, SIGHUP──▶ worker 0 … N-1: each an api of its own
        │  ◀──a pair of sockets each──▶         │
    /metrics        ready, metrics          listen.port with SO_REUSEPORT

The supervisor is the main process for systemd, monit and bpm; no connection passes through it.

``supervisor``
    starts the workers, restarts those that end, drains and reloads them.
``worker``
    what a worker does that a single api does not.
``link``
    the messages between the two.
``page``
    the metrics of all of them on one page.
"""
