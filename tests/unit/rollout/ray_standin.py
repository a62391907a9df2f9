"""Stands in for Ray where one process is enough: an actor is an object, and what it is asked is there at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Ray:
    """What `ixt_rl.rollout.pool.variables` and a driver ask of the module; `joined`, `options`: what it was told."""

    def __init__(self) -> None:
        self.joined: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.actors: dict[str, Any] = {}

    def init(self, **options: Any) -> None:
        self.joined = options

    def remote(self, kind: type) -> Any:
        def options(**options: Any) -> Any:
            self.options = options
            return SimpleNamespace(remote=lambda *given: self._made(options["name"], kind(*given)))

        return SimpleNamespace(options=options)

    def _made(self, name: str, actor: Any) -> Any:
        self.actors[name] = SimpleNamespace(values=SimpleNamespace(remote=actor.values))
        return self.actors[name]

    def get_actor(self, name: str) -> Any:
        return self.actors[name]

    def get(self, value: Any) -> Any:
        return value
