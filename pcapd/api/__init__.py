"""The api: authorizes captures, starts them on the agents, and joins their streams.

``service``
    the daemon: listens, admits captures, drains.
``admission``
    the captures that run here, and whether there is room for one more.
``http``
    the interface for clients: pages, WebSockets, downloads.
``capture``
    one user's capture over many agents, and its audit records.
``recordings``
    captures whose sink is a store, so that they outlive their client.
``state``
    what several api processes share in a database.
``resolvers``
    find the user of a token and the targets of a request.
``policy``
    the operator's rules, which apply to every user.
``known``
    the agents that the api knows, whether they are there, and what they say of themselves.
``operators``
    who may see and stop running captures, and see agents.
``health``
    the body of ``GET /health``.
``metrics``
    counters and gauges for Prometheus.
"""
