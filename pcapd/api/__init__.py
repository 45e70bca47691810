"""The api: decides who may capture what, asks the agents, joins their streams.

``api``
    the service: listens, counts captures, drains.
``capture``
    one user's capture over many agents: fan-in, limits, the end.
``agentlink``
    the connection to one agent, for one target of one capture.
``resolvers``, ``static``, ``cloudfoundry``
    from a request and a token to a user and targets.
``cc``
    what Cloud Controller's answers mean: plain functions.
``following``
    adds the instances that restart, move or appear while a capture runs.
``stream``, ``download``
    where a capture's frames go: a WebSocket, or an HTTP response.
``clientfiles``
    the client for download, under ``/cli/``.
``connection``
    a client's HTTP connection: one request at a time, a time limit for each step.
``websocket``
    the same connection after its upgrade: messages and their bounds.
``web``
    the HTTP front: plain pages, errors, tokens, request ids.
``forwarded``
    the address of the client behind a proxy: plain functions.
``audit``, ``metrics``
    what is kept of it.
"""
