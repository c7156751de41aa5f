"""Processes whose own peak of memory is measured, and processes that are killed at random points."""

import subprocess
import sys

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
