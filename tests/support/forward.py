"""Pass connections on to another address: `python forward.py 127.0.0.1 8000 10.77.0.1 8001`.

A root without TLS must be on this machine, and so it is in the namespace of each worker.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


async def serve(host: str, port: int, to_host: str, to_port: int) -> None:
    """Pass connections on, for ever."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(to_host, to_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    server = await asyncio.start_server(meet, host, port)
    await server.serve_forever()


if __name__ == "__main__":
    here, its_port, there, other_port = sys.argv[1:]
    asyncio.run(serve(here, int(its_port), there, int(other_port)))
