"""What captures say about the network.

=============  ===============================================================
flows          per flow: where its packets were seen, how long between, and what was lost
merging        the rows of several files as one capture
conversations  who talks to whom, and what each place saw of it
world          the places, their clocks, what they lost
exchanges      what is said in conversations: HTTP, DNS, TLS
findings       what went wrong, each kind in a file of its own
quiet          conversations in which nothing happened
explanation    from packets to findings
report         an explanation for scripts
page           the explanation as one HTML page with drawings
=============  ===============================================================

Like `pcapd.records` it has an implementation in C (``_native.c``, ``_conversations.h``) and
one in Python (`_reference`, `_conversations`) with the same results and the same errors.
"""

from __future__ import annotations
