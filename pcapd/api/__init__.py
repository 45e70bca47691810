"""The api: decides who may capture what, asks the agents, joins their streams.

``service``
    the daemon: listens, admits captures, drains.
``http``
    the clients' side: pages, WebSockets, downloads.
``capture``
    one user's capture over many agents, and the record of it.
``resolvers``
    from a request and a token to a user and targets.
``policy``
    what the operator lets nobody do.
``metrics``
    what is counted, for Prometheus.
"""
