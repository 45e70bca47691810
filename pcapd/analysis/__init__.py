"""Analysis of captures: flows, conversations and findings.

=============  ===============================================================
flows          the delays and losses of each flow between places
merging        merges the rows of several files
conversations  the conversations, and what each place saw of them
world          the places, their clocks and their losses
exchanges      the content of conversations: HTTP, DNS, TLS
findings       the kinds of findings, each in a separate file
quiet          recognises conversations without findings quickly
explanation    derives findings from the packets of files
report         the explanation as JSON
page           the explanation as one HTML page with diagrams
=============  ===============================================================

Like `pcapd.records`, it has an implementation in C (``_native.c`` and its headers) and one in
Python (`_reference`, `_conversations`), with the same results and the same errors.
"""

from __future__ import annotations
