"""Reads the headers and first lines of packets.  Bytes in, values out.

==========  ==================================================================
linktypes   link types: numbers in libpcap and in files, and names
headers     the walker: the headers of a packet, and their positions
identity    the bytes of a packet that do not change on its way
flow        the conversation and direction of a packet
row         the fields of a packet, in a fixed number of bytes
cursor      reads the fields of a message one after the other
http        the first line of an HTTP message
dns         DNS messages
tls         the first record of a TLS connection
==========  ==================================================================

``_walker.h`` and ``_row.h`` are `headers` and `row` for the compiled modules of the
packages above this one.
"""

from __future__ import annotations
