"""pcapctl: the client that asks the api for a capture and writes one file.

Standard library, wsproto, click and rich; runs on Python 3.9 and needs nothing
compiled.  What is pure is kept apart from what touches the outside:

==================  =========================================================
``main``            the commands and their options, which need little time
``cf``              ``pcapctl cf``: an app and the pcap api, from cf's login
``status``          ``pcapctl status``
``run``             one capture from its options to its exit status: the loop
------------------  ------------------------------- pure: no I/O, no clock --
``options``         the options that all capture commands share
``capture``         the state of one capture: when it stops, how it went
``websocket``       binary messages cut out of the stream without copying
``report``          sources and the end, in words and as a JSON object
``meter``           rates, and which sources the live table shows
``screen``          the live table as text (rich)
``manual``          the man page, from what --help says
``text``            numbers for people; text of strangers made harmless
``cfconfig``        the cf CLI's configuration: read, and tokens replaced
------------------  ------------------------------------------------- I/O --
``deadline``        the time limit of an exchange
``connection``      TCP, TLS and the WebSocket to the api
``proxy``           proxies: which one, and the way through it
``stopping``        signals, and the end of the program that started us
``output``          the file or the pipe that is written
``reportfile``      the report as a file, after failures too
``terminal``        writing to a terminal that may not read
``live``            the live table on its terminal
``fetch``           one HTTP request, bounded in bytes and time
``cloud``           what is asked of Cloud Controller and UAA
``cflogin``         the cf CLI's configuration as a file
``completion``      the command line in shells
``seentwice``       after a capture: packets that its file holds twice
==================  =========================================================
"""
