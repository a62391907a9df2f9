"""Waits until a Ray cluster has so many nodes beside its head.

python wait_for_ray.py ADDRESS NODES SECONDS     # exit status 1: they did not come; what came is said
"""

from __future__ import annotations

import sys
import time

import ray


def engines_nodes() -> list[str]:
    """Addresses of nodes that are there, without the head."""
    return [
        node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and "node:__internal_head__" not in node["Resources"]
    ]


def main(address: str, wanted: int, seconds: float) -> int:
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    end = time.monotonic() + seconds
    while len(found := engines_nodes()) < wanted and time.monotonic() < end:
        time.sleep(1)
    print(f"{len(found)} of {wanted} nodes for engines: {' '.join(sorted(found))}", file=sys.stderr)
    return int(len(found) < wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
