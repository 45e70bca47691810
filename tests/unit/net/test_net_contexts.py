"""TLS contexts from files: renewed ones are used, bad ones are refused and the old ones stay."""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from demo.certificates import Authority, Credentials
from pcapd.errors import ConfigError
from pcapd.net.tls import ServerContext
from tests.kit.unit.net import LONGEST, Server, client_context, connect, server_tls


@pytest.fixture
def renewable(authority: Authority, tmp_path: Path) -> Credentials:
    """An agent's credentials in files of their own, that a test may replace."""
    return _copied(authority.issue_agent("renewable-agent"), tmp_path)


def _copied(credentials: Credentials, directory: Path) -> Credentials:
    copy = Credentials(directory / "own.crt", directory / "own.key", credentials.ca)
    shutil.copy(credentials.certificate, copy.certificate)
    shutil.copy(credentials.private_key, copy.private_key)
    return copy


async def shown(server: Server, authority: Authority) -> str:
    """Connect, and return the common name that the server's certificate shows."""
    reactor: Any = sys.modules["twisted.internet.reactor"]
    client, transport = connect(reactor, server.address, client_context(authority.issue_api("contexts-api")))
    await client.ready.addTimeout(LONGEST, reactor)
    certificate = transport.getPeerCertificate()
    transport.loseConnection()
    await client.closed.addTimeout(LONGEST, reactor)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


@pytest_twisted.ensureDeferred
async def test_renewed_files_are_shown_to_new_connections(
    authority: Authority, renewable: Credentials
) -> None:
    """After a reload the next connection sees the new certificate, on the same listener."""
    context = ServerContext(server_tls(renewable))
    server = Server(sys.modules["twisted.internet.reactor"], context)
    try:
        assert await shown(server, authority) == "renewable-agent"
        _copied(authority.issue_agent("renewed-agent"), renewable.certificate.parent)
        assert await shown(server, authority) == "renewable-agent"
        use = context.prepare()
        assert await shown(server, authority) == "renewable-agent"
        use()
        assert await shown(server, authority) == "renewed-agent"
    finally:
        await server.close()


@pytest.mark.parametrize(
    "flaw", ["missing", "garbage", "the key of another", "a key of another kind", "empty"]
)
def test_bad_files_are_refused_and_the_old_ones_stay(
    authority: Authority, renewable: Credentials, flaw: str
) -> None:
    """A failed reload names the files and leaves the context as it was."""
    context = ServerContext(server_tls(renewable))
    before = context()
    if flaw == "missing":
        renewable.certificate.unlink()
    elif flaw == "the key of another":
        shutil.copy(authority.issue_agent("other-agent").private_key, renewable.private_key)
    elif flaw == "a key of another kind":
        key = Ed25519PrivateKey.generate()
        renewable.private_key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
    else:
        renewable.certificate.write_text("nonsense" if flaw == "garbage" else "")
    with pytest.raises(ConfigError, match=r"own\.crt.*own\.key"):
        context.prepare()
    assert context() is before


def test_a_bad_file_of_a_server_that_knows_no_clients(renewable: Credentials) -> None:
    """A bad file of a server without client CAs, as an api's listener, gives an error that names its files."""
    renewable.private_key.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"cannot use \S*own\.crt, \S*own\.key: "):
        ServerContext(replace(server_tls(renewable), client_cas=None))


@pytest.mark.parametrize("old_end", ["client", "server"])
def test_neither_end_speaks_tls_that_is_too_old(
    authority: Authority, renewable: Credentials, old_end: str
) -> None:
    """A peer with TLS 1.1 at most gets no connection, one with 1.2 does."""
    for newest, works in ((SSL.TLS1_1_VERSION, False), (SSL.TLS1_2_VERSION, True)):
        contexts = {
            "server": ServerContext(server_tls(renewable))(),
            "client": client_context(authority.issue_api("old-api"))(),
        }
        lax = contexts[old_end]
        lax.set_cipher_list(b"ALL:@SECLEVEL=0")
        lax.set_min_proto_version(SSL.TLS1_VERSION)
        lax.set_max_proto_version(newest)
        assert shakes_hands(contexts["client"], contexts["server"]) is works


def shakes_hands(client_context: SSL.Context, server_context: SSL.Context) -> bool:
    """Whether the two come to terms, in memory."""
    client, server = SSL.Connection(client_context, None), SSL.Connection(server_context, None)
    client.set_connect_state()
    server.set_accept_state()
    try:
        for _ in range(10):
            for here, there in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    here.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    there.bio_write(here.bio_read(65536))
    except SSL.Error:
        return False
    return client.get_finished() is not None and client.get_finished() == server.get_peer_finished()
