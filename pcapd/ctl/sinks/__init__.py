"""Where packets go: files, readers on the network, lines on standard output; and the report.

===============  ============================================================
``fileoptions``  into how many files, and where else: options and their checks.  Pure.
``output``       one file or pipe, written in whole blocks
``files``        the files of a capture: one, or a series by size, time, instance
``serving``      PCAP-over-IP: the capture as a stream to whoever connects
``printing``     one line per packet
``outlets``      all of them together
``reportfile``   the report as a file, after failures too
===============  ============================================================
"""
