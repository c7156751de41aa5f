"""Counts of a server as Prometheus reads them (text exposition format 0.0.4)."""

import threading
from collections import Counter

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets."""


class Metrics:
    """Counters that several threads raise. Their number does not grow with the requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter = Counter()
        self._seconds: Counter = Counter()
        self._seconds_sum = 0.0
        self._batches = self._images = self._unreadable = 0

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request; `route` is one of the server's own, never what a client wrote."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[next((bound for bound in SECONDS if seconds <= bound), None)] += 1
            self._seconds_sum += seconds

    def batch(self, images: int) -> None:
        """Counts a forward."""
        with self._lock:
            self._batches += 1
            self._images += images

    def unreadable(self, images: int) -> None:
        """Counts images that could not be read."""
        with self._lock:
            self._unreadable += images

    def text(self, **gauges: float) -> str:
        """All of it; `gauges` are values of this moment, each by its name."""
        with self._lock:
            lines = ["# TYPE pamela_requests_total counter"]
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'pamela_requests_total{{route="{route}",status="{status}"}} {count}')
            lines.append("# TYPE pamela_request_seconds histogram")
            total = 0
            for bound in (*SECONDS, None):
                total += self._seconds[bound]
                lines.append(f'pamela_request_seconds_bucket{{le="{"+Inf" if bound is None else bound}"}} {total}')
            lines += [f"pamela_request_seconds_sum {self._seconds_sum:.6f}", f"pamela_request_seconds_count {total}"]
            for name, count in [
                ("forwards", self._batches), ("images", self._images), ("unreadable_images", self._unreadable)
            ]:  # fmt: skip
                lines += [f"# TYPE pamela_{name}_total counter", f"pamela_{name}_total {count}"]
        for name, value in gauges.items():
            lines += [f"# TYPE pamela_{name} gauge", f"pamela_{name} {value}"]
        return "\n".join(lines) + "\n"
