"""A folder has one holder, who is named, and whose lock ends with it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.files import readable
from ixt_rl.locks import LOCK, locked

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


def test_a_folder_that_was_deleted_while_it_was_waited_for_is_held_anew(holder, tmp_path):
    def delete(_: str) -> None:
        shutil.rmtree(tmp_path)
        holder.kill()

    with locked(tmp_path, "testing", wait=delete):
        assert (tmp_path / LOCK).is_file()
        with pytest.raises(ConfigError, match=f"pid {os.getpid()}"), locked(tmp_path, "testing"):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_to_have_none(number: int, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError) as caught, locked(tmp_path, "testing"):
        pass
    said = readable(caught.value)
    assert said is not None and str(tmp_path / LOCK) in said.what
    assert "has no locks" in said.reason and "another one" in said.remedy


def test_a_lock_repeats_no_secret_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ixt-rl", "run", "a.yaml", "url=http://me:hunter2hunter2@host/v1"])
    with locked(tmp_path, "testing"):
        assert "hunter2" not in (tmp_path / LOCK).read_text()
        assert "me" not in (tmp_path / LOCK).read_text().partition("://")[2].partition("host")[0]
