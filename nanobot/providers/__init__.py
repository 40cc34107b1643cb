"""Model services: what the agent needs from one, where it is, and what makes one dependable.

Providers go around providers: `Retrying(Fallback([...]))` around `Primed(Limited(service, limiter))`.

The vendors' code lives in packages of its own (`nanobot.providers.openai_chat`), imported by name by whoever
needs one, so that importing this package stays cheap.
"""

from ._circuit import Circuit
from ._endpoint import Endpoint, Timeouts
from ._fallback import Candidate, Fallback
from ._limited import Limited
from ._limiter import Limiter
from ._primed import Primed
from ._provider import DeltaStream, ModelRequest, OutputFormat, Provider, RequestWatch
from ._rate_gate import RateLimits
from ._retry import RetryPolicy
from ._retrying import Retrying
from ._strict_schema import strict_schema

__all__ = [
    "Candidate",
    "Circuit",
    "DeltaStream",
    "Endpoint",
    "Fallback",
    "Limited",
    "Limiter",
    "ModelRequest",
    "OutputFormat",
    "Primed",
    "Provider",
    "RateLimits",
    "RequestWatch",
    "RetryPolicy",
    "Retrying",
    "Timeouts",
    "strict_schema",
]
