"""The api's interface for clients: HTTP and WebSocket.

``web``
    the client's identity, and the plain pages.
``websocket``
    a client's connection after its upgrade: messages and the limits on them.
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
