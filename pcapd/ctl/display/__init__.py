"""What the user sees: text, lines and a live table.

==============  ==============================================================
``text``        numbers for people; text of strangers made harmless.  Pure.
``decode``      one packet in a line of text.  Pure.
``dump``        a packet's bytes as tcpdump -A and -X print them.  Pure.
``flows``       what ``pcapctl flows`` found, for people and for scripts
``interfaces``  the interfaces there are (``-D``), instead of a capture
``align``       writes a file with the times of all interfaces by one clock
``explain``     what ``pcapctl explain`` found, for people, and its page
``seentwice``   packets that a finished file holds twice
``report``      sources and the end, as text and as a JSON object.  Pure.
``progress``    rates, and which sources the live table shows.  Pure.
``table``       the live table as text (rich).  Pure.
``terminal``    writing to a terminal that may not read
``live``        the live table on its terminal
``messages``    warnings and details before a capture starts
``reporter``    what happens during a capture, as lines, a table or events
==============  ==============================================================
"""
