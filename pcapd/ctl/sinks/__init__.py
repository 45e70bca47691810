"""Where packets go: files, readers on the network, lines on standard output; and the report.

The loop gives every piece to each sink, and the sink writes it.

===============  ============================================================
``fileoptions``  into how many files, and where else: options and their checks.  Pure.
``sink``         what every sink is
``opening``      which kinds of sink there are: one line for each
``files``        which files the options ask for: a composition of the next three
``single``       one file
``rotation``     a series of files by size or by time
``split``        files for each instance
``output``       a file or a pipe, written in whole blocks
``compressed``   a file that is compressed while it is written
``inventory``    the files there are, for the report.  Pure.
``serving``      PCAP-over-IP: the capture as a stream to whoever connects
``printing``     one line per packet
``reportfile``   the report as a file, after failures too
===============  ============================================================
"""
