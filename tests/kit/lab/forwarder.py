"""A TCP forwarder: ``python forwarder.py PORT BACKEND BACKEND_PORT``.

It stands for the router or proxy in front of an api: connections of its own on both
sides, all addresses, both versions of IP.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import StreamReader, StreamWriter


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _serve(port: int, backend: str, backend_port: int) -> None:
    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        there, back = await asyncio.open_connection(backend, backend_port)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    server = await asyncio.start_server(connected, ["0.0.0.0", "::"], port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
