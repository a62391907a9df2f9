#!/usr/bin/env bash
# math-verify 0.9.0: checking an answer switches off the alarm of whoever calls.
#
# Behaviour: `parse` and `verify` bound their own time by SIGALRM. When they are done they put the caller's handler
# back, and set the alarm to none. So a time limit around a reward function, or around a test, is gone with the first
# answer that is checked, by `signal.alarm` and by `setitimer(ITIMER_REAL)`, which are one timer. With both time limits
# None it stays.
# Seen, an alarm of two seconds and three seconds of patience: it rings with nothing between; after `parse` and after
# `verify` no time is left and nothing rings; with parsing_timeout=None and timeout_seconds=None it rings.
# Guessed before: as the handler is put back, the time that was left is, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "math-verify[antlr4_13_2]==0.9.0"
cat > "$folder/seen.py" <<'PYTHON'
import signal
import time

from math_verify import parse, verify


def rings_after(work):
    rang = []
    signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    signal.setitimer(signal.ITIMER_REAL, 2)
    work()
    time.sleep(3)
    return bool(rang)


rang = {
    "nothing": rings_after(lambda: None),
    "parse": rings_after(lambda: parse("1/2")),
    "verify": rings_after(lambda: verify(1, 1)),
    "without their limits": rings_after(
        lambda: verify(1, *parse("1", parsing_timeout=None)[:1], timeout_seconds=None)),
}
print(f"whether an alarm rings after: {rang}")
assert [*rang.values()] == [True, False, False, True], "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
