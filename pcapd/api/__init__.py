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
``web``
    the HTTP front: routes, errors, tokens, request ids.
``audit``, ``metrics``
    what is kept of it.
"""
