"""Processes whose own peak of memory is measured, and processes that are killed at random points."""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

PEAK = '''
def peak():
    """Peak resident memory of this process's own address space in MB: VmHWM of /proc. (`ru_maxrss` starts at what the
    parent had when it forked.)"""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
'''


def peak_of(code: str, *arguments: object, seconds: float = 300) -> list[float]:
    """Runs code in a process of its own, which finds `peak()` (MB) and prints numbers last; returns these."""
    command = [sys.executable, "-c", PEAK + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr[-3000:]
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


def in_parallel(work: Callable[[int], Any], count: int, workers: int = 2) -> list[Any]:
    """`[work(0), …, work(count - 1)]`, each worker a fork of this process that does its share one after the other.

    Results travel as JSON. A worker that fails fails the test with its own traceback.
    """
    started = []
    for first in range(min(workers, count)):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.close(reading)
                try:
                    answer: dict[str, Any] = {n: work(n) for n in range(first, count, workers)}
                except BaseException:
                    answer = {"failed": traceback.format_exc()}
                with os.fdopen(writing, "w") as pipe:
                    json.dump(answer, pipe)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        started.append((pid, reading))
    results: dict[int, Any] = {}
    failures = []
    for pid, reading in started:
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer = json.loads(text) if text else {"failed": f"a worker ended with status {status}"}
        if "failed" in answer:
            failures.append(answer["failed"])
        else:
            results.update({int(n): value for n, value in answer.items()})
    assert not failures, failures[0]
    return [results[n] for n in range(count)]


def killed(work: Callable[[], None], ready: Callable[[], bool], seconds: float) -> bool:
    """Runs `work` in a fork and sends it SIGKILL `seconds` after `ready()` became true; whether it was still at work.

    Raises:
        AssertionError: it failed by itself.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    deadline = None
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, f"it failed by itself: status {status}"
            return False
        now = time.monotonic()
        if deadline is None and ready():
            deadline = now + seconds
        if deadline is not None and now >= deadline:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            return os.WIFSIGNALED(status)
        time.sleep(0.0005)
