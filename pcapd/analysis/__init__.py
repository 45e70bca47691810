"""What captures say about the network.

=======  =====================================================================
flows    per flow: where its packets were seen, how long between, and what was lost
=======  =====================================================================

Like `pcapd.records` it has an implementation in C (``_native.c``) and one in Python
(`_reference`) with the same results and the same errors.
"""

from __future__ import annotations
