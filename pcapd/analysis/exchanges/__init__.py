"""What is said in conversations: requests and answers, questions and answers, handshakes.

========  =====================================================================
streams   one direction of a connection, in order
http      HTTP/1.1
dns       DNS over UDP and TCP
tls       the handshakes of TLS
requests  the requests of a conversation as all places saw them
log       gives payloads to the readers
========  =====================================================================
"""

from __future__ import annotations
