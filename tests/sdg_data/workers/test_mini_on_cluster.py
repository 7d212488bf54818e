"""The mini profile by the real commands on three machines: a cut network and kills leave the digest of one process.

By default with a few prompts (minutes). For the whole thing, with one process's home of the same prompts made before
(`sdg minis prompts --count 500 --seed 22`, `prompts import`, `generate run`, `prelabel run`):

    SDG_TEST_CLUSTER_PROMPTS=500 SDG_TEST_CLUSTER_KILLS=20 SDG_TEST_CLUSTER_REFERENCE=HOME pytest -m slow THIS_FILE
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.sdg_data.workers.drivers import Driver, digest, kill_in_turns, turns
from tests.sdg_data.workers.namespaces import BUCKET, Machines, possible

pytest.importorskip("ray")
pytest.importorskip("moto")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not possible(), reason="needs root and network namespaces")]

PROMPTS = int(os.environ.get("SDG_TEST_CLUSTER_PROMPTS", "30"))
KILLS = int(os.environ.get("SDG_TEST_CLUSTER_KILLS", "5"))
ENDS = (0, 10)
"""Exit codes of a run that went to its end: of a thousand answers of the toy detector some are not to be read."""
SDG = [sys.executable, "-m", "sdg_data.cli"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "PROFILE": "mini"}


def sdg(home: Path, *arguments: str) -> str:
    command = [*SDG, "--home", str(home), *arguments]
    done = subprocess.run(command, check=False, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert done.returncode in ENDS
    return done.stdout


def fill(home: Path) -> None:
    prompts = home.parent / f"{home.name}.txt"
    prompts.write_text(sdg(home, "minis", "prompts", "--count", str(PROMPTS), "--seed", "22"), encoding="utf-8")
    sdg(home, "prompts", "import", str(prompts), "--source", "mini")


@pytest.fixture(scope="module")
def digest_of_one_process(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    @cache
    def made() -> str:
        home = Path(os.environ.get("SDG_TEST_CLUSTER_REFERENCE") or tmp_path_factory.mktemp("alone") / "home")
        if not home.exists():
            fill(home)
            sdg(home, "generate", "run")
            sdg(home, "prelabel", "run")
        return digest(home, str(home / "blobs"))

    return made


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Machines(tmp_path_factory.mktemp("machines"), cpus=1) as machines:
        machines.start_node(2)
        machines.start_node(3)
        yield machines


class Flow:
    """A home whose images and prelabels are made on the machines."""

    def __init__(self, machines: Machines, folder: Path, name: str) -> None:
        self.machines, self.home, self.blobs = machines, folder / name, f"s3://{BUCKET}/{name}"
        self._config, self._log = folder / f"{name}.toml", folder / name
        fill(self.home)
        self._config.write_text(
            f'extends = "mini"\n[storage]\nblobs = "{self.blobs}"\n'
            f'[work]\nexecutor = "ray"\naddress = "{machines.head}"\n',
            encoding="utf-8",
        )

    def begin(self, stage: str) -> Driver:
        """Start `generate` or `prelabel`."""
        command = [*SDG, "--home", str(self.home), "--config", str(self._config), stage, "run"]
        driver = Driver(self.machines, command, self.home, stage, self._log.with_suffix(f".{stage}.log"))
        driver.start()
        return driver

    def digest(self) -> str:
        """That of the home."""
        return digest(self.home, self.blobs, self.machines)


def test_a_machine_is_cut_off_for_half_a_minute(
    machines: Machines, digest_of_one_process: Callable[[], str], tmp_path: Path
) -> None:
    flow = Flow(machines, tmp_path, "cut")
    images = flow.begin("generate")
    assert images.more(PROMPTS // 2)
    with machines.unplugged(3):
        time.sleep(30)
    images.finish()
    flow.begin("prelabel").finish(*ENDS)
    assert flow.digest() == digest_of_one_process()


def test_workers_raylets_and_drivers_are_killed(
    machines: Machines, digest_of_one_process: Callable[[], str], tmp_path: Path
) -> None:
    flow, chance = Flow(machines, tmp_path, "killed"), random.Random(2)
    turn, killed = turns(KILLS), Counter[str]()
    for stage, due in (("generate", turn[: 2 * KILLS // 3]), ("prelabel", turn[2 * KILLS // 3 :])):
        driver = flow.begin(stage)
        killed += kill_in_turns(machines, driver, due, chance, apart=2 * PROMPTS // (len(due) + 1))  # in the first half
        driver.finish(*ENDS)
    assert killed == Counter(turn)
    assert flow.digest() == digest_of_one_process()
