"""The Slurm scripts and the Kubernetes manifest hang together: checked dry, as nobody here has such a cluster."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sdg_data.settings import load_settings
from tests.test_docs import ROOT, faults

FOLDER = ROOT / "examples" / "cluster"
# man sbatch, of those that scripts here may want
SBATCH = {
    *("job-name", "nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "mem", "time", "exclusive"),
    *("partition", "account", "signal", "output", "error", "requeue", "array", "constraint"),
}
RAY_JOB = {
    *("submissionMode", "entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"),
    *("rayClusterSpec", "runtimeEnvYAML", "suspend", "activeDeadlineSeconds", "submitterPodTemplate"),
}
WORKER_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "numOfHosts"}
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))


def options(text: str) -> dict[str, str]:
    lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE)
    assert len(lines) == text.count("#SBATCH"), "an option that cannot be read"
    return dict(lines)


def commands_in(text: str) -> list[list[str]]:
    """The `sdg` commands of a shell script, without the options in front of the command."""
    joined = text.replace("\\\n", " ")
    found = []
    for match in re.finditer(
        r"(?:sdg|-m sdg_data\.cli) ([^&'\"\n]*)", re.sub(r"^#.*$", "", joined, flags=re.MULTILINE)
    ):
        words = shlex.split(match[1])
        while words and words[0] in ("--config", "--home"):
            words = words[2:]
        found.append(words)
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_slurm_script_is_whole(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", script], check=True)
    assert text.startswith("#!/bin/bash\n")
    asked = options(text)
    assert asked.keys() <= SBATCH
    assert int(asked["nodes"]) > 1
    assert re.fullmatch(r"(\d+-)?\d+:\d\d:\d\d", asked["time"])
    first_command = text.index("\nset -")
    assert text.rindex("#SBATCH") < first_command  # Slurm reads no option behind the first command
    commands = commands_in(text)
    assert commands
    assert [fault for words in commands for fault in faults(words)] == []
    for file in re.findall(r"--config_file (\S+)", text):
        assert (ROOT / file).is_file()


def test_several_nodes_start_as_many_processes_as_they_have_gpus() -> None:
    text = (FOLDER / "slurm_train.sbatch").read_text(encoding="utf-8")
    assert f"SLURM_JOB_NUM_NODES * {options(text)['gpus-per-node']}" in text
    assert options(text)["ntasks-per-node"] == "1"  # accelerate starts the others


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text(encoding="utf-8")))
    assert all({"apiVersion", "kind", "metadata"} <= document.keys() for document in documents)
    return {document["kind"]: document for document in documents}


def test_the_ray_job_names_what_is_there(manifest: dict[str, Any]) -> None:
    job = manifest["RayJob"]
    assert job["apiVersion"] == "ray.io/v1"
    assert job["spec"].keys() <= RAY_JOB
    cluster = job["spec"]["rayClusterSpec"]
    (pinned,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert cluster["rayVersion"] == pinned
    groups = cluster["workerGroupSpecs"]
    assert all(group.keys() <= WORKER_GROUP for group in groups)
    assert all(group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups)
    head = cluster["headGroupSpec"]["template"]["spec"]
    images = {c["image"] for pod in [head, *(g["template"]["spec"] for g in groups)] for c in pod["containers"]}
    assert len(images) == 1  # the same software everywhere
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"]  # Kubernetes shares out no GPU
        assert int(limits["nvidia.com/gpu"]) >= 1
    (container,) = head["containers"]
    volumes = {volume["name"]: volume for volume in head["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    claim = volumes["home"]["persistentVolumeClaim"]["claimName"]
    assert claim == manifest["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["config"]["configMap"]["name"] == manifest["ConfigMap"]["metadata"]["name"]


def test_its_command_and_config_are_good(manifest: dict[str, Any], tmp_path: Path) -> None:
    job, config = manifest["RayJob"]["spec"], manifest["ConfigMap"]["data"]
    (name,) = config
    words = shlex.split(job["entrypoint"])
    home = words[words.index("--home") + 1]
    assert words[words.index("--config") + 1] == f"/etc/sdg/{name}"
    mounts = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {mount["mountPath"] for mount in mounts} == {home, "/etc/sdg"}
    assert [fault for words in commands_in(job["entrypoint"]) for fault in faults(words)] == []
    file = tmp_path / name
    file.write_text(config[name], encoding="utf-8")
    settings = load_settings(config=file, home=tmp_path)
    assert settings.work.executor == "ray"
    assert settings.work.workers == "auto"
    assert settings.blob_url.startswith("s3://")  # which every pod reaches
