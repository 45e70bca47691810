"""The kinds of findings, each in a separate file.

===============  =============================================================
base             the base class of the kinds
kinds            the list of all kinds
page             makes docs/findings.rst
where            the order of the places from the client to the server
refused          connection_refused
unanswered       connection_unanswered
unreachable      connection_unreachable
handshake        slow_handshake
lost             lost_between
retransmissions  retransmissions
stalled          receiver_stalled
reset            reset_in_use
keepalive        keepalive_race
idle             idle_cut
mtu              mtu_black_hole
dns_failed       dns_failed
dns_unanswered   dns_unanswered
dns_slow         dns_slow
tls              tls_failed
http_errors      http_errors
http_slow        http_slow
http_unanswered  http_unanswered
incomplete       capture_incomplete
clocks           clocks_apart
===============  =============================================================
"""

from __future__ import annotations
