"""What the pool says of engines that failed."""

from __future__ import annotations

from ixt_rl.errors import BackendFailed


def was_closed() -> BackendFailed:
    return BackendFailed("the pool was closed", reason="close() was called", remedy="make a new pool")


def reason_of(error: Exception) -> str:
    """What Ray's exceptions say, in a line or two."""
    from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}"
    if isinstance(error, RayActorError):
        return "its process died: " + " ".join(str(error).split())[:400]
    if isinstance(error, GetTimeoutError):
        return "it did not answer in time"
    return f"{type(error).__name__}: {error}"
