"""``--explain`` of the capture commands: explains a capture while it runs, in another process.

=============  ==========================================================================
``explainer``  the sink that passes the packets to that process, and receives its results
``process``    the program of that process
=============  ==========================================================================

The capture never waits for the analysis.  Packets wait in a bounded backlog; when it is full,
packets are skipped and counted, and the findings are made from the file at the end.
"""
