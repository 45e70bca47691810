"""The outputs of a capture: files, network readers, lines on standard output; and the report.

The loop passes every piece to each sink, which writes it.

===============  ============================================================
``fileoptions``  options for files and other outputs, and their checks.  Pure.
``sink``         the interface of every sink
``opening``      creates the sinks of a capture: one line for each kind
``files``        selects the files that the options need
``single``       one file
``rotation``     a series of files by size or by time
``split``        files for each instance
``output``       a file or a pipe, written in whole blocks
``compressed``   a file that is compressed while it is written
``inventory``    the list of files, for the report.  Pure.
``serving``      PCAP-over-IP: serves the capture to TCP readers
``printing``     prints one line per packet
``reportfile``   writes the report to a file, also after failures
===============  ============================================================
"""
