"""The first signal is an exception in the main thread, the second ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ixt_rl.signals import Stopped, kept, stoppable


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_once_and_handlers_come_back(number, status):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught, stoppable():
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert caught.value.status == status
    assert number.name in str(caught.value)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(second):
    script = (
        "import time\nfrom ixt_rl.signals import stoppable\n"
        "with stoppable():\n"
        "    try: print('up', flush=True); time.sleep(60)\n"
        "    finally: print('closing', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "closing\n"
        child.send_signal(second)
        assert child.wait(20) == -second


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_takes_a_signal_gives_it_back():
    with stoppable():
        handler = signal.getsignal(signal.SIGTERM)
        with kept():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is handler
