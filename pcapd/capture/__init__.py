"""The only package that touches libpcap, capabilities and network namespaces.

``bpf``
    checks and combines the text of filters.
``displayfilter``
    recognises Wireshark's display filters, and suggests the capture filter.
``compiling``
    compiles filter text to a program for the kernel, without blocking the agent.
``trial``
    compiles a long filter in a separate process that can be stopped.
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
    changes to an unprivileged user, with the capabilities for capturing.
``hardening``
    drops what no daemon needs, such as core dumps; needs neither libpcap nor libcap.

Nothing here imports Twisted.
"""
