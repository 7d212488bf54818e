"""Which executor options and settings give."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sdg_data.console import WorkOptions
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.preflight import machine
from sdg_data.settings import Settings, WorkSettings
from sdg_data.work import LocalExecutor
from sdg_data.workers import ray_pool
from sdg_data.workers.choose import executor_of, work_settings
from sdg_data.workers.process_pool import ProcessPool
from sdg_data.workers.ray_pool import RayPool


def settings(tmp_path: Path, **work: Any) -> Settings:
    return Settings(profile="mini", home=tmp_path, work=WorkSettings(**work))


def with_gpus(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(machine, "visible_gpus", lambda: {name: machine.Gpu("H100", 80.0) for name in names})


def pool_of(executor: Any) -> Any:
    return executor._make_pool()


def test_without_options_this_process_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, "0", "1")
    assert isinstance(executor_of(settings(tmp_path), WorkOptions(), "generate"), LocalExecutor)
    assert isinstance(executor_of(settings(tmp_path), WorkOptions(workers="1"), "generate"), LocalExecutor)


@pytest.mark.parametrize(
    ("gpus", "slots"), [(("0", "1", "2"), ["gpu 0", "gpu 1", "gpu 2"]), (("0",), None), ((), None)]
)
def test_auto_is_a_process_for_each_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: tuple[str, ...], slots: list[str] | None
) -> None:
    with_gpus(monkeypatch, *gpus)
    executor = executor_of(settings(tmp_path), WorkOptions(workers="auto"), "generate")
    if slots is None:
        assert isinstance(executor, LocalExecutor)
    else:
        pool = pool_of(executor)
        assert isinstance(pool, ProcessPool)
        assert list(pool._slots) == slots


def test_an_option_goes_before_the_settings(tmp_path: Path) -> None:
    stated = settings(tmp_path, executor="ray", workers=8, gpus_per_worker=0.5, address="10.0.0.1:6379")
    assert work_settings(stated, WorkOptions()) == stated.work
    changed = work_settings(stated, WorkOptions(workers="auto", address="10.0.0.2:6379"))
    assert changed == WorkSettings(executor="ray", workers="auto", gpus_per_worker=0.5, address="10.0.0.2:6379")
    assert work_settings(stated, WorkOptions(executor="local", workers="3")).workers == 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (WorkOptions(executor="slurm"), "'slurm'"),
        (WorkOptions(workers="0"), "'0'"),
        (WorkOptions(workers="many"), "'many'"),
        (WorkOptions(workers="-2"), "'-2'"),
        (WorkOptions(workers="4097", executor="ray"), "4096 workers"),
        (WorkOptions(workers="9" * 5000), "4096 workers"),
        (WorkOptions(workers="4096"), "4096 processes"),
        (WorkOptions(workers="2", gpus_per_worker=0.5), "0.5"),
        (WorkOptions(workers="2", gpus_per_worker=4), "4"),
        (WorkOptions(workers="2", gpus_per_worker=math.inf), "not inf"),
        (WorkOptions(address="10.0.0.1:6379"), "--address"),
        *[
            (WorkOptions(executor="ray", address=address), repr(address))
            for address in ("x", "host:port", ":6379", "h:0", "h:65536", "h:\u0662", "http://h:1", "ray://h:1", "a b:1")
        ],
    ],
)
def test_what_makes_no_sense_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: WorkOptions, named: str
) -> None:
    with_gpus(monkeypatch, "0", "1")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(ConfigError) as caught:
        executor_of(settings(tmp_path), options, "generate")
    assert named in str(caught.value)


@pytest.mark.parametrize("wrong", [{"executor": "slurm"}, {"workers": 0}, {"workers": "two"}, {"gpus_per_worker": -1}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WorkSettings(**wrong)


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.cluster:65535", "[::1]:6379"])
def test_an_address_is_a_host_and_a_port(tmp_path: Path, address: str) -> None:
    assert work_settings(settings(tmp_path), WorkOptions(executor="ray", address=address)).address == address


def test_the_environments_address_counts_where_none_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")  # as `ray job submit` takes it
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS: 'http://127\.0\.0\.1:8265' is no address"):
        work_settings(settings(tmp_path), WorkOptions(executor="ray"))
    assert work_settings(settings(tmp_path), WorkOptions(executor="ray", address="h:1")).address == "h:1"
    assert work_settings(settings(tmp_path), WorkOptions()).executor == "local"


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_pool, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"sdg-data\[ray\]"):
        executor_of(settings(tmp_path), WorkOptions(executor="ray"), "generate")


def test_ray_takes_as_many_workers_as_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "find_spec", lambda name: object())
    pool = pool_of(executor_of(settings(tmp_path), WorkOptions(executor="ray", address="h:1"), "generate"))
    assert isinstance(pool, RayPool)
    assert (pool._options.workers, pool._options.address, pool._options.gpus_per_worker) == (None, "h:1", None)


def test_the_commands_import_neither_ray_nor_what_talks_to_it() -> None:
    """Also with workers of this machine: Ray is for those who ask for it."""
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import annotate.machine.cli, exports.cli, generators.cli, trainers.detector.cli, trainers.refinement.cli\n"
        "import sdg_data.workers.choose, sdg_data.workers.executor, sdg_data.workers.process_pool\n"
        "import sdg_data.workers.process\n"
        "print([name for name in sys.modules if name.startswith('sdg_data.workers.ray')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
