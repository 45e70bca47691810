"""The only package that touches libpcap, capabilities and network namespaces.

``bpf``
    the text of filters: what users may write.
``displayfilter``
    recognises Wireshark's display filters, and suggests the capture filter.
``compiling``
    compiles filter text to the kernel's program, also if that takes long.
``trial``
    compiles a long filter in a process that can be stopped.
``libpcap``
    libpcap through ctypes: a compiler that does not block other threads.
``exclusion``
    programs that keep pcapd's own connections out of a capture.
``tally``
    counts the packets that these programs exclude.
``kernelfilter``
    reads the socket's filter program, and replaces it in one step.
``interfaces``
    interfaces, their addresses and drop counters, over netlink.
``source``
    one capture on one interface: `open_source` and `CaptureSource`.
``namespaces``
    enters other network namespaces, on short-lived threads.
``privileges``
    changes to an unprivileged user that may still capture.
``hardening``
    what every daemon gives up, also the api; needs neither libpcap nor libcap.

Nothing here imports Twisted.
"""
