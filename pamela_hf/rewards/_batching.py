"""Requests of many threads, answered by one thread in batches."""

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any


class Busy(RuntimeError):
    """More is waiting already than the queue holds."""


class Batcher:
    """Answers what several threads ask in as few calls as it can: what came in during one call is the next batch.

    Nothing waits for a batch to fill up, so a request that comes alone is answered at once. The thread starts with the
    first request, which also makes a batcher that was copied by a fork work.

    Args:
        function: items → as many answers.
        max_items: items of one call, at most.
        max_waiting: items that may wait; 0 = any number.
    """

    def __init__(self, function: Callable[[list[Any]], Sequence[Any]], max_items: int = 32, max_waiting: int = 0):
        self._function, self._max_items = function, max_items
        self._max_waiting = max_waiting
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._count = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Items that wait or are being answered."""
        return self._count

    def submit(self, *items: Any) -> Future:
        """Hands in items; the future's result is the answer of one, or a list of the answers of several.

        Raises:
            Busy: the queue is full. RuntimeError: the batcher is closed.
        """
        future: Future = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("This batcher is closed.")
            if self._max_waiting and self._count + len(items) > self._max_waiting:
                raise Busy(f"{self._count} items are waiting; the queue holds {self._max_waiting}.")
            self._count += len(items)
            if self._thread is None or not self._thread.is_alive():
                self._waiting = queue.SimpleQueue() if self._thread is not None else self._waiting
                target = _work, (weakref.ref(self), self._waiting)
                self._thread = threading.Thread(target=target[0], args=target[1], name="pamela-batches", daemon=True)
                self._thread.start()
            self._waiting.put((future, items))
        return future

    def close(self, timeout: float | None = None) -> None:
        """Answers what is waiting, then ends the thread."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._waiting.put(None)
            thread.join(timeout)

    def __del__(self) -> None:
        self._waiting.put(None)

    def _answer(self, requests: list[tuple[Future, tuple[Any, ...]]]) -> None:
        items = [item for _, its in requests for item in its]
        try:
            answers = list(self._function(items))
        except Exception as error:  # whatever it is belongs to those who asked
            for future, _ in requests:
                future.set_exception(error)
        else:
            start = 0
            for future, its in requests:
                part = answers[start : start + len(its)]
                start += len(its)
                future.set_result(part[0] if len(its) == 1 else part)
        finally:
            with self._lock:
                self._count -= len(items)


def _work(batcher: "weakref.ref[Batcher]", waiting: queue.SimpleQueue) -> None:
    held = None
    while True:
        request = held if held is not None else waiting.get()
        held = None
        owner = batcher()
        if request is None or owner is None:
            return
        batch, count = [request], len(request[1])
        while count < owner._max_items:
            try:
                more = waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:  # the end comes after those who are waiting
                waiting.put(None)
                break
            if count + len(more[1]) > owner._max_items:
                held = more
                break
            batch.append(more)
            count += len(more[1])
        owner._answer(batch)
        del owner
