"""What went wrong: each kind of finding in a file of its own.

===============  =============================================================
base             what a kind of finding is
kinds            all of them
page             docs/findings.rst
where            which place is nearer to which end
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
