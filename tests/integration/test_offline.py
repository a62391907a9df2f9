"""Work on local files reaches nothing beyond this machine, although nobody set HF_HUB_OFFLINE."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import constants
from huggingface_hub.utils import _detect_agent

from ixt_rl.blocks.data import FileDataBlock
from ixt_rl.cli.main import main
from ixt_rl.config.load import load_run
from ixt_rl.offline import offline
from ixt_rl.run.hub import asks_hub
from tests.integration.run_helpers import base, config, online

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture
def reached(monkeypatch, tmp_path) -> list[Any]:
    """Hosts beyond this machine that were looked up or connected to; each attempt fails. The hub is not off."""
    found: list[Any] = []
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def guarded_look_up(host, *rest, **named):
        if host not in (None, *LOOPBACK):
            found.append(host)
            raise socket.gaierror(f"{host} is not to be reached")
        return look_up(host, *rest, **named)

    def guarded_connect(self, address):
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            found.append(address)
            raise ConnectionRefusedError(f"{address} is not to be reached")
        return connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "none.json"))
    monkeypatch.setattr(_detect_agent, "_registry", None)
    return found


def test_the_guard_sees_what_huggingface_hub_asks(reached):
    with offline():
        _detect_agent.detect_agent()
    assert reached == []
    _detect_agent._registry = None
    _detect_agent.detect_agent()
    assert reached == ["huggingface.co"]
    assert constants.HF_HUB_OFFLINE is False


def test_a_run_on_local_files_reaches_nothing(reached, tmp_path):
    rows = [{"q": f"{n}+{n}", "a": str(2 * n)} for n in range(12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(tmp_path / "sums.jsonl"), "question": "q", "answer": "a", "eval_rows": 4}
    stage = online("files", type="grpo", init="model", data=data, rewards=[{"type": "math"}], steps=1)
    model = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}
    run = config(tmp_path, [{**stage, "evaluation": None, "sampling": {"max_new_tokens": 8}}], model={"new": model})
    assert not asks_hub(run)
    done = CliRunner().invoke(main, ["run", str(tmp_path / "run.yaml")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert reached == []


def test_what_comes_from_the_hub_is_seen(tmp_path):
    run = config(tmp_path, [base(), online("intro")])
    assert not asks_hub(run)
    assert asks_hub(load_run(tmp_path / "run.yaml", ["model.new=null", "model.path=some/model"]))
    elsewhere = FileDataBlock(path="some/data", question="q", answer="a")
    stage = run.stages[1].model_copy(update={"data": elsewhere})
    assert asks_hub(run.model_copy(update={"stages": [run.stages[0], stage]}))
