"""An explanation as one HTML file, which needs no network and runs no script.

========  ====================================================================
timeline  how many packets each place saw, by time
ladder    the packets of one conversation, at all places
charts    drawings (SVG)
document  the page
========  ====================================================================

The drawings are made here rather than by a library in the page: so the page has no
script, its Content-Security-Policy allows none, and what packets hold cannot become one.
"""

from __future__ import annotations
