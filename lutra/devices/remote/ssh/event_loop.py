"""An asyncio event loop in a thread, for code that is not asynchronous itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread, started when first used."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="lutra-ssh", daemon=True
            )
            self._thread.start()
        return self._loop

    def call(self, work: Coroutine[Any, Any, T], limit_seconds: float) -> T:
        """Run a coroutine to its end; raises TimeoutError after the limit."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result(limit_seconds)
        except (TimeoutError, concurrent.futures.TimeoutError):
            future.cancel()
            raise TimeoutError(f"no answer within {limit_seconds:g} s") from None

    def run_now(self, function: Callable[[], object]) -> None:
        """Have the loop call a function soon."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """End the loop and its thread; it starts anew when used again."""
        if self._loop is None or self._thread is None:
            return
        with contextlib.suppress(TimeoutError):
            self.call(_finish_tasks(), 5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None


async def _finish_tasks() -> None:
    """Let what is being torn down end, so that nothing is destroyed while pending."""
    mine = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not mine]
    if others:
        _, pending = await asyncio.wait(others, timeout=2.0)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
