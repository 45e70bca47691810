"""pcapctl: the client that asks the api for a capture and writes one file.

Standard library, wsproto and click; runs on Python 3.9 and needs nothing
compiled.  What is pure is kept apart from what touches the outside:

==================  =========================================================
``options``         the options that all capture commands share
``hosts``           ``pcapctl hosts``; ``status``: ``pcapctl status``
``run``             one capture from its options to its exit code
------------------  ------------------------------- pure: no I/O, no clock --
``conversation``    WebSocket and wire session in one: bytes in, events out
``capture``         the state of one capture: when it stops, what is written
``accounts``        what every source received, dropped, lost
``ordering``        many sources into time order, with bounded hold-back
``writer``          the blocks of the file around the packets
``report``          the end in words and as a JSON object
``progress``        the status line
``words``           numbers for people; text of strangers made harmless
------------------  ------------------------------------------------- I/O --
``endpoint``        the api's URL; ``connection``: TCP and TLS to it
``stream``          the loop: socket, signals, output, display
``output``          the file or the pipe that is written
``display``         stderr for people, JSON lines for programs
==================  =========================================================
"""
