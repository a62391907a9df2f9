#!/usr/bin/env bash
# Ray 2.55.0, psutil 7: a node that is told its address is 127.0.0.1 listens beyond loopback all the same.
#
# Behaviour: `ray.init(_node_ip_address="127.0.0.1")` takes that address for the machine's outer one, unless the
# environment said, before Ray was imported, that there are no clusters (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0). Only then
# do all of its processes listen on loopback alone.
# Seen: without the variable six listening sockets of Ray's processes are bound to other addresses than 127.0.0.1 and ::1;
# with it, to none.
# Guessed before: the argument alone is enough, as its name says.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ray==2.55.0 "psutil>=7,<8"
cat > "$folder/seen.py" <<'PYTHON'
import os
import sys

if sys.argv[1] == "alone":
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
import psutil
import ray

ray.init(address="local", _node_ip_address="127.0.0.1", num_cpus=1, include_dashboard=False, log_to_driver=False)
beyond = set()
for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    for socket in process.net_connections(kind="tcp"):
        if socket.status == psutil.CONN_LISTEN and socket.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            beyond.add((process.name(), socket.laddr.port))
ray.shutdown()
print(f"{sys.argv[1]}: {len(beyond)} listening sockets beyond loopback")
assert bool(beyond) == (sys.argv[1] == "told"), "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/seen.py" told
"$folder/venv/bin/python" "$folder/seen.py" alone
