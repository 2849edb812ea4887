"""A job server that tests can cut off, in a thread of this process."""

import asyncio
import threading

from aiohttp import web

JOB = {"type": "SUBMISSION", "submission_id": "j", "entrypoint": "x", "message": "m", "metadata": {"ray_classy": "0"}}


class JobServer:
    """Has one job, whose log grows piece by piece.

    Args:
        log: the pieces; None cuts the connection, and the next one starts at the first piece.
        status: of the job, once its whole log was read.
    """

    def __init__(self, log, **status):
        self.log, self.ended, self.sent = log, status, 0
        self.now = {"status": "RUNNING"}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self):
        app = web.Application()
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/jobs/j", self._job)
        app.router.add_get("/api/jobs/j/logs/tail", self._tail)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _version(self, request):
        return web.json_response({"ray_version": "2.60.0"})

    async def _job(self, request):
        return web.json_response({**JOB, **self.now})

    async def _tail(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for position, piece in enumerate(self.log):
            if piece is None and position >= self.sent:
                self.sent = position + 1
                request.transport.abort()
                return socket
            if piece is not None:
                await socket.send_str(piece)
        self.now = self.ended
        return socket

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
