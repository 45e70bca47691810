"""A TCP forwarder: ``python forwarder.py PORT BACKEND BACKEND_PORT [BYTES]``.

It stands for the router or proxy in front of an api: connections of its own on both
sides, all addresses, both versions of IP.  With BYTES, it cuts each connection after
so many bytes from the backend, as a router does after some time.
"""

from __future__ import annotations

import asyncio
import math
import sys
from asyncio import StreamReader, StreamWriter


async def _pass_on(reader: StreamReader, writer: StreamWriter, left: float = math.inf) -> None:
    try:
        while left > 0 and (data := await reader.read(65536)):
            left -= len(data)
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _serve(port: int, backend: str, backend_port: int, most: float) -> None:
    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        there, back = await asyncio.open_connection(backend, backend_port)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer, most))

    server = await asyncio.start_server(connected, ["0.0.0.0", "::"], port)
    await server.serve_forever()


if __name__ == "__main__":
    most = float(sys.argv[4]) if len(sys.argv) > 4 else math.inf
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), most))
