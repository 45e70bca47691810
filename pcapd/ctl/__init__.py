"""pcapctl: the client that asks the api for a capture and writes one file.

Standard library, wsproto, click and rich; runs on Python 3.9 and needs nothing
compiled.  What is pure is kept apart from what touches the outside:

==================  =========================================================
``main``            the commands and their options, which need little time
``arguments``       what the commands take, as click reads it
``cf``              ``pcapctl cf``: an app and the pcap api, from cf's login
``bosh``            ``pcapctl bosh``: a deployment, from the BOSH CLI's login
``status``          ``pcapctl status``
``run``             one capture from its options to its exit status: the loop
------------------  ------------------------------- pure: no I/O, no clock --
``options``         the options that all capture commands share
``fileoptions``     into how many files a capture goes
``decode``          what a packet is, in one line
``flows``           ``pcapctl flows``: what was found, for people and for scripts
``capture``         the state of one capture: when it stops, how it went
``websocket``       binary messages cut out of the stream without copying
``report``          sources and the end, in words and as a JSON object
``meter``           rates, and which sources the live table shows
``screen``          the live table as text (rich)
``manual``          the man page, from what --help says
``text``            numbers for people; text of strangers made harmless
``cfconfig``        the cf CLI's configuration: read, and tokens replaced
``boshconfig``      the same of the BOSH CLI's
------------------  ------------------------------------------------- I/O --
``deadline``        the time limit of an exchange
``connection``      TCP, TLS and the WebSocket to the api
``stopping``        signals, and the end of the program that started us
``outlets``         everywhere a capture's packets go
``files``           the files of a capture: one, or several
``series``          the files of one stream, one after the other
``output``          the file or the pipe that is written
``serving``         PCAP-over-IP: the capture for readers on the network
``printing``        one line for each packet
``reportfile``      the report as a file, after failures too
``terminal``        writing to a terminal that may not read
``live``            the live table on its terminal
``fetch``           one HTTP request, bounded in bytes and time
``cloud``           what is asked of Cloud Controller and UAA
``cflogin``         the cf CLI's configuration as a file
``boshlogin``       the BOSH CLI's login as a file
``boshdirector``    what is asked of a BOSH director and its UAA
``completion``      the command line in shells
``extcap``          pcapctl as a capture interface of Wireshark
``plugin``          pcapctl as a plugin of the cf CLI
==================  =========================================================
"""
