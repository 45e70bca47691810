"""The only package that touches libpcap, capabilities and network namespaces.

``bpf``
    what a filter may say, and the capture's own streams taken out of it.
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
``trial``
    compiling a long filter in a process that can be stopped.

Nothing here imports Twisted.
"""
