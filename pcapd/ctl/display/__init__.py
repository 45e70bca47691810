"""The output for the user: text, lines and a live table.

==============  ==============================================================
``text``        formats numbers, and escapes untrusted text.  Pure.
``decode``      describes one packet in one line.  Pure.
``dump``        a packet's bytes as tcpdump -A and -X print them.  Pure.
``flows``       the output of ``pcapctl flows``, as text and as JSON
``interfaces``  the list of interfaces (``-D``)
``align``       writes a capture with the times corrected to one clock
``explain``     the output of ``pcapctl explain``, as text and as a page
``resuming``    says how to go on after a lost connection (``--resumable``).  Pure.
``seentwice``   finds packets that a finished file contains twice
``report``      the report at the end, as text and as JSON.  Pure.
``progress``    rates, and the choice of sources for the live table.  Pure.
``table``       the live table as text (rich).  Pure.
``terminal``    writes to a terminal without waiting for it
``live``        draws the live table on its terminal
``messages``    prints warnings and details before a capture starts
``reporter``    reports on a running capture: lines, a table or events
==============  ==============================================================
"""
