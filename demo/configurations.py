"""Configurations of the lab's daemons, and changes to them."""

from __future__ import annotations

import copy
import hashlib
import random
import socket
from collections import deque
from pathlib import Path
from typing import Any, Mapping

from demo.certificates import AGENT_NAME, API_NAME, Credentials

LOCAL = "127.0.0.1"

Config = dict[str, Any]


#: Abstract sockets, each named after a recently returned port: see `free_port`.
_claims: deque[socket.socket] = deque()
_CLAIMS = 64


def free_port() -> int:
    """Return a TCP port without a listener, outside the range that the kernel assigns to clients.

    A claim prevents other processes that call this from taking the same port before it has a listener.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)  # below ip_local_port_range
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0pcapd-port-{port}")
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((LOCAL, port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > _CLAIMS:
            _claims.popleft().close()
        return port


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """Return ``base`` with ``changes`` applied to it, mapping by mapping; None removes a key."""
    result = copy.deepcopy(dict(base))
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def agent_config(
    credentials: Credentials, port: int, namespaces: Mapping[str, Path], name: str = "agent"
) -> Config:
    """Return the configuration of an agent that listens on 127.0.0.1 and may capture in ``namespaces``."""
    return {
        "id": name,
        "log_level": "debug",
        "listen": {
            "host": LOCAL,
            "port": port,
            "tls": {
                "certificate": str(credentials.certificate),
                "private_key": str(credentials.private_key),
                "client_cas": str(credentials.ca),
                "allowed_clients": [API_NAME],
            },
        },
        "namespaces": {target: str(path) for target, path in namespaces.items()},
    }


def api_config(
    credentials: Credentials,
    port: int,
    targets: Mapping[str, Mapping[str, Any]],
    users: Mapping[str, str],
    name: str = "api",
) -> Config:
    """Return the configuration of an api on 127.0.0.1 with static ``targets``, and tokens by user in ``users``."""
    certificate = {"certificate": str(credentials.certificate), "private_key": str(credentials.private_key)}
    return {
        "id": name,
        "log_level": "debug",
        "listen": {"host": LOCAL, "port": port, "tls": certificate},
        # Tests count connections of agents; those of probes enable them.
        "probe": {"enabled": False},
        "agents": {"tls": {**certificate, "ca": str(credentials.ca), "server_name": AGENT_NAME}},
        "static": {
            "users": {
                user: {"token_sha256": hashlib.sha256(token.encode()).hexdigest(), "targets": ["*"]}
                for user, token in users.items()
            },
            "targets": {target: dict(place) for target, place in targets.items()},
        },
    }
