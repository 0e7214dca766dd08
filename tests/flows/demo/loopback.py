"""A real HTTP server on loopback, in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

from aiohttp import web


@contextmanager
def serving(path, handler):
    """The address of a server that answers posts to a path by `handler(request)`."""
    loop = asyncio.new_event_loop()

    async def start():
        app = web.Application()
        app.router.add_post(path, handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
