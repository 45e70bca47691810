"""Reads the headers and first lines of packets.  Pure functions of bytes.

==========  ==================================================================
linktypes   link types: numbers in libpcap and in files, and names
headers     finds the headers of a packet, and their positions
identity    the bytes of a packet that routers do not change
flow        the conversation and direction of a packet
row         the fields of a packet, in a fixed number of bytes
cursor      reads the fields of a message one after the other
http        the first line of an HTTP message
dns         DNS messages
tls         the first record of a TLS connection
==========  ==================================================================

``_walker.h`` and ``_row.h`` are the same as `headers` and `row` in C; the compiled modules of
other packages include them.
"""

from __future__ import annotations
