"""A folder has one holder, who is named, and whose lock ends with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.locks import locked

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom ixt_rl.locks import locked\n"
    "with locked(Path(sys.argv[1]), 'testing'):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_second_process_is_refused_and_told_who_has_it(holder, tmp_path):
    with pytest.raises(ConfigError) as caught, locked(tmp_path, "testing", "wait for it"):
        pass
    assert f"another process is testing: pid {holder.pid} on " in caught.value.reason
    assert f"-c {tmp_path}`, since 20" in caught.value.reason
    assert caught.value.remedy == "wait for it"


def test_a_lock_ends_with_its_process_and_is_waited_for(holder, tmp_path):
    told: list[str] = []
    timer = threading.Timer(0.5, holder.send_signal, [signal.SIGKILL])
    timer.start()
    with locked(tmp_path, "testing", wait=told.append):
        assert len(told) == 1
        assert f"pid {holder.pid}" in told[0]
    with locked(tmp_path, "testing"):
        pass
    timer.join()


def test_a_lock_of_this_process_holds_too_and_is_given_back(tmp_path):
    with locked(tmp_path, "testing"), pytest.raises(ConfigError), locked(tmp_path, "testing"):
        pass
    with locked(tmp_path, "testing"):
        pass
