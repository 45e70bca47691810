"""The api: authorizes captures, starts them on the agents, and joins their streams.

``service``
    the daemon: listens, admits captures, drains.
``health``
    what ``/health`` says.
``http``
    the interface for clients: pages, WebSockets, downloads.
``capture``
    one user's capture over many agents, and its audit records.
``recordings``
    captures whose sink is a store, so that they outlive their client.
``resolvers``
    find the user of a token and the targets of a request.
``policy``
    the operator's rules, which apply to every user.
``known``
    the agents that the api knows, whether they are there, and what they say of themselves.
``operators``
    who may see and stop running captures, and see agents.
``metrics``
    counters and gauges for Prometheus.
"""
