"""The reward over HTTP and MCP: `pamela serve`.

service: images and people in, scores out, many requests in one forward.  requests: what may be sent.  app: the routes.
tools: the same for assistants (MCP).  metrics: what Prometheus reads.  run: listening, and stopping in order.
"""

from ...exports import exports

__getattr__, __all__ = exports(__name__, app=["create_app"], run=["serve"], service=["ScoringService", "ServiceLimits"])
