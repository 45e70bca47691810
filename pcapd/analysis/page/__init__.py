"""An explanation as one HTML file without scripts and external resources.

========  ====================================================================
timeline  the packet rate of each place over time
ladder    the packets of one conversation at all places
charts    diagrams (SVG)
style     the style sheet
document  the page
========  ====================================================================

The diagrams are made here rather than by a library in the page, so the page contains no
script, its Content-Security-Policy allows none, and packet content cannot become one.
"""

from __future__ import annotations
