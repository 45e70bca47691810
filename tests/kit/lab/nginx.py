"""A real nginx in front of apis, as an operator configures it: TLS on both sides, WebSockets, no buffers."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Iterator, Sequence

import pytest

from demo.certificates import Authority
from demo.configurations import LOCAL
from demo.processes import end, wait_until

__all__ = ["nginx"]

_CONFIG = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 128; }}
http {{
  access_log off;
  {paths}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
  upstream apis {{ {servers} }}
  server {{
    listen {address}:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {private_key};
    location / {{
      proxy_pass https://apis;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_name localhost;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_connect_timeout 1s;
      proxy_read_timeout {idle}s;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Vcap-Request-Id $request_id;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(
    directory: Path,
    authority: Authority,
    port: int,
    apis: Sequence[int],
    answers: Callable[[], bool],
    *,
    idle: int = 60,
) -> Iterator[None]:
    """Serve a port of this machine until the end of the context.

    Args:
        directory: For its files.
        authority: Issues its certificate, and has issued those of the apis.
        port: The port.
        apis: Ports of the apis.  An api that refused a connection is asked again at once.
        answers: Whether an api answers through it.
        idle: Seconds after which it cuts an answer in which nothing comes.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    credentials = authority.issue_api("nginx")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    config = directory / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            directory=directory,
            paths="\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds),
            servers=" ".join(f"server {LOCAL}:{api} max_fails=0;" for api in apis),
            address=LOCAL,
            port=port,
            certificate=credentials.certificate,
            private_key=credentials.private_key,
            ca=credentials.ca,
            idle=idle,
        )
    )
    process = subprocess.Popen([program, "-p", str(directory), "-c", str(config)])
    try:
        wait_until(answers, "nginx serves", timeout=20)
        yield
    finally:
        end(process)
