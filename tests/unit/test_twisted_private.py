"""What pcapd uses of Twisted and pyOpenSSL beyond their documented interfaces must still be there.

A new version that renames one of these parts fails here with a sentence that names it,
before it fails in a capture.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from typing import Any, Iterator

import pytest
from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Port
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Site

import pcapd

#: Per class of Twisted: what no documentation promises, and where pcapd needs it.
USED = [
    (FileDescriptor, "_maybePauseProducer", "pcapd.net.transport"),
    (FileDescriptor, "_isSendBufferFull", "pcapd.net.transport"),
    (FileDescriptor, "bufferSize", "pcapd.net.transport"),
    (FileDescriptor, "producerPaused", "pcapd.net.transport"),
    (FileDescriptor, "dataBuffer", "pcapd.net.ports"),
    (FileDescriptor, "offset", "pcapd.net.ports"),
    (FileDescriptor, "_tempDataLen", "pcapd.net.ports"),
    (HTTPChannel, "requests", "pcapd.net.httpserver"),
    (HTTPChannel, "writeHeaders", "pcapd.net.httpserver"),
    (HTTPChannel, "requestDone", "pcapd.net.httpserver"),
    (HTTPChannel, "allContentReceived", "pcapd.net.httpserver"),
    (HTTPChannel, "lineLengthExceeded", "pcapd.net.httpserver"),
    (HTTPChannel, "resetTimeout", "pcapd.net.httpserver"),
    (Request, "gotLength", "pcapd.net.httpserver"),
    (Request, "clientproto", "pcapd.net.httpserver"),
    (Site, "displayTracebacks", "pcapd.net.httpserver"),
    (Port, "sessionno", "pcapd.net.ports"),
    (Port, "transport", "pcapd.net.ports"),
    (Port, "backlog", "pcapd.net.ports"),
    (ProtocolWrapper, "wrappedProtocol", "pcapd.net.fetch"),
]


@pytest.mark.parametrize(("owner", "name", "user"), USED, ids=lambda value: getattr(value, "__name__", value))
def test_it_is_there(owner: type, name: str, user: str) -> None:
    """Each undocumented part of Twisted that pcapd uses exists."""
    assert name in set().union(*map(_names, owner.__mro__)), (
        f"this Twisted has no {owner.__name__}.{name}, which {user} uses: "
        "adapt that module, or lower the upper bound of twisted in setup.py"
    )


def test_openssl_is_reached_through_pyopenssl() -> None:
    """`pcapd.net.receiving` calls OpenSSL itself; a new pyOpenSSL without these parts needs another way."""
    assert {"SSL_read", "SSL_get_error", "SSL_ERROR_WANT_READ"} <= set(dir(lib))
    assert callable(ffi.from_buffer) and callable(SSL.Connection._raise_ssl_error)
    assert hasattr(SSL.Connection(SSL.Context(SSL.TLS_METHOD)), "_ssl")


def test_no_private_name_is_overridden_by_accident() -> None:
    """A private name of a class of ours means something else in a Twisted base only where the table says so."""
    known = {name for _, name, _ in USED}
    shared = {
        f"{ours.__module__}.{ours.__name__}.{name}: {theirs.__name__} has it as well"
        for ours in _our_classes()
        for theirs in ours.__mro__
        if theirs.__module__.startswith("twisted.")
        for name in _names(ours) & _names(theirs) - known
        if name.startswith("_") and not name.startswith("__")
    }
    assert not shared


def _our_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(pcapd.__path__, "pcapd."):
        if module.name.startswith(("pcapd.net", "pcapd.agent", "pcapd.api")):
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name:
                    yield value


def _names(owner: Any) -> set[str]:
    """Return what a class defines, and what its methods use of ``self``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError):  # of C, or made at run time
        return set(vars(owner))
    return set(vars(owner)) | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
