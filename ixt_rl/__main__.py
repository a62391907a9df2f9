"""`python -m ixt_rl` is `ixt-rl`."""

from __future__ import annotations

from ixt_rl.cli import main

if __name__ == "__main__":
    main(prog_name="ixt-rl")
