"""The content of conversations: HTTP requests, DNS queries, TLS handshakes.

========  =====================================================================
streams   one direction of a connection, in order
request   a request and its response at one place
http      HTTP/1.1
frames    the frames of HTTP/2, with decompressed header blocks
http2     HTTP/2 in clear, and gRPC
dns       DNS over UDP and TCP
tls       TLS handshakes
requests  the requests of a conversation, from the views of all places
log       passes payloads to the readers
========  =====================================================================
"""

from __future__ import annotations
