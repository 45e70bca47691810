"""What packets are made of.  Bytes in, values out.

==========  ==================================================================
linktypes   link types: what libpcap calls them, in files, and in words
headers     the walker: which headers a packet has, and where
identity    the bytes of a packet that nobody changes on its way
flow        which conversation a packet belongs to, and in which direction
row         what is known of a packet, in a fixed number of bytes
cursor      reads the fields of a message one after the other
http        the first line of an HTTP message
dns         DNS messages
tls         the first record of a TLS connection
==========  ==================================================================

``_walker.h`` and ``_row.h`` are `headers` and `row` for the compiled modules of the
packages above this one.
"""

from __future__ import annotations
