"""The api: authorizes captures, starts them on the agents, and joins their streams.

``service``
    the daemon: listens, admits captures, drains.
``http``
    the clients' side: pages, WebSockets, downloads.
``capture``
    one user's capture over many agents, and its audit records.
``resolvers``
    from a request and a token to a user and targets.
``policy``
    the operator's rules, which apply to every user.
``metrics``
    counters and gauges for Prometheus.
"""
