"""Calls libpcap functions that pcapy lacks, through ctypes, which releases the interpreter's lock."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from functools import partial
from pathlib import Path

from pcapd.capture import kernelfilter
from pcapd.errors import BadFilter, CaptureFailed
from pcapd.limits import SNAPLEN_MAX

__all__ = ["compile_filter", "libpcap_path", "libpcap_version"]

_ERROR_SIZE = 256  # PCAP_ERRBUF_SIZE
_SMALL_RING = 128 * 1024  # bytes; the ring is never read


@functools.cache
def libpcap_path() -> str:
    """The path of the libpcap with which pcapy is linked.

    Raises:
        CaptureFailed: This process has not loaded libpcap.
    """
    import pcapy  # noqa: F401, PLC0415 - loads libpcap

    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if re.search(r"/libpcap[-.][^/]*so", path):
            return path
    raise CaptureFailed("libpcap is not loaded as a shared library")


@functools.cache
def libpcap_version() -> str:
    """The version text of the loaded libpcap, such as ``libpcap version 1.10.3 …``."""
    version = _libpcap().pcap_lib_version
    version.restype = ctypes.c_char_p
    return os.fsdecode(version())


def compile_filter(interface: str, text: str) -> bytes:
    """Compile a filter for an interface in the calling thread's network namespace.  Blocks.

    The function opens a separate capture on the interface, because the program depends on how
    libpcap captures the interface, and closes it again.  Other threads can run while it compiles.

    Returns:
        The program that libpcap attaches, as instructions of struct sock_filter.

    Raises:
        BadFilter: The filter does not compile, or is too large for the kernel.
        CaptureFailed: The interface cannot be opened.
    """
    pcap = _libpcap()
    error = ctypes.create_string_buffer(_ERROR_SIZE)
    handle = ctypes.c_void_p(pcap.pcap_create(interface.encode(), error))
    if not handle:
        raise CaptureFailed(f"libpcap cannot open {interface}: {_text(error.value)}")
    problem = partial(_last_error, pcap, handle)
    try:
        pcap.pcap_set_snaplen(handle, SNAPLEN_MAX)  # the program cuts packets to this length
        pcap.pcap_set_buffer_size(handle, _SMALL_RING)
        if pcap.pcap_activate(handle) < 0:
            raise CaptureFailed(f"libpcap cannot open {interface}: {problem()}")
        _set_filter(pcap, handle, text)
        return kernelfilter.attached(pcap.pcap_fileno(handle))
    finally:
        pcap.pcap_close(handle)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


def _set_filter(pcap: ctypes.CDLL, handle: ctypes.c_void_p, text: str) -> None:
    program = _Program()
    if pcap.pcap_compile(handle, ctypes.byref(program), text.encode(), 1, 0):
        raise BadFilter(_last_error(pcap, handle), "see pcap-filter(7) for the syntax")
    try:
        if pcap.pcap_setfilter(handle, ctypes.byref(program)):
            raise BadFilter(_last_error(pcap, handle), "write a shorter filter")
    finally:
        pcap.pcap_freecode(ctypes.byref(program))


def _last_error(pcap: ctypes.CDLL, handle: ctypes.c_void_p) -> str:
    return _text(pcap.pcap_geterr(handle))


def _text(message: bytes) -> str:
    return message.decode("utf-8", "replace") or "unknown error"


@functools.cache
def _libpcap() -> ctypes.CDLL:
    pcap = ctypes.CDLL(libpcap_path())
    pcap.pcap_create.restype = ctypes.c_void_p
    pcap.pcap_geterr.restype = ctypes.c_char_p
    return pcap
