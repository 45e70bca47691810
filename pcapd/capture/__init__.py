"""The only package that touches libpcap, capabilities and network namespaces.

``bpf``
    what a filter may say.
``displayfilter``
    Wireshark's display filters, recognised, with the capture filter that was meant.
``compiling``
    from filter text to the kernel's program, also where that takes long.
``trial``
    compiling a long filter in a process that can be stopped.
``libpcap``
    libpcap through ctypes: a compiler that does not stop the other threads.
``exclusion``
    programs that keep pcapd's own connections out of a capture.
``tally``
    counting what they leave out.
``kernelfilter``
    the socket's filter program, read and replaced in one step.
``interfaces``
    what the kernel knows of an interface: addresses and drop counters, over netlink.
``source``
    one capture on one interface: `open_source` and `CaptureSource`.
``namespaces``
    opening it in another network namespace, on a thread that dies with it.
``privileges``
    becoming an unprivileged user that may still capture.
``hardening``
    what every daemon gives up, the api too: it needs neither libpcap nor libcap.

Nothing here imports Twisted.
"""
