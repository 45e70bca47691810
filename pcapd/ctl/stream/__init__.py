"""The connection to the api, and the protocol exchange on it.

==============  =============================================================
``peer``        what delivers a capture, and how long it is waited for
``session``     one capture from START to its result.  Pure.
``websocket``   splits the stream into messages without copying.  Pure.
``deadline``    the time limit of an exchange
``proxy``       selects a proxy, and connects through it
``connection``  TCP, TLS and the WebSocket to the api
``running``     requests the running captures, and ends one
``health``      requests the api's status and its targets
==============  =============================================================
"""
