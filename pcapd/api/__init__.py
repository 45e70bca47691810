"""The api: decides who may capture what, asks the agents, joins their streams.

``api``
    the service: listens, counts captures, drains.
``capture``
    one user's capture over many agents: fan-in, limits, the end.
``agentlink``
    the connection to one agent, for one target of one capture.
``resolvers``, ``static``, ``cloudfoundry``
    from a request and a token to a user and targets.
``bosh``, ``director``
    the resolver for VMs of a BOSH deployment, and what the director's answers mean.
``cc``
    what Cloud Controller's answers mean: plain functions.
``tokens``
    UAA's tokens: whether they can be real, whose they are and what they allow.
``questions``
    questions of many clients to one authority: their order, and which are refused.
``lookout``
    looks again and again whether an authority is there, for ``/health``.
``policy``
    what the operator lets nobody do.
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
