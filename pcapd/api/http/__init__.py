"""The api's interface for clients: HTTP and WebSocket.

``web``
    the client's identity, error bodies, and the plain pages.
``connection``
    a client's HTTP connection: one request at a time, with a time limit for each step.
``websocket``
    the same connection after its upgrade: messages and the limits on them.
``stream``
    a capture as frames over a WebSocket.
``download``
    a capture as a file in an HTTP response.
``captures``
    the list of running captures, and the page that ends one.
``clientfiles``
    the files of the command line client, for download under ``/cli/``.
``forwarded``
    the address of the client behind a proxy: plain functions.
"""
