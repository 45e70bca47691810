"""The way to the api: one connection, and the conversation on it.

==============  =============================================================
``session``     one capture from START to its result.  Pure.
``websocket``   binary messages cut out of the stream without copying.  Pure.
``deadline``    the time limit of an exchange
``proxy``       proxies: which one, and the way through it
``connection``  TCP, TLS and the WebSocket to the api
``health``      what the api says about itself (``GET /health``)
==============  =============================================================
"""
