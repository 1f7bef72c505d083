"""Real containers and pods for end-to-end tests: the image as it was built, the manifests as kustomize renders them.

`WATCHER_IMAGE` names the image (`operation-watcher:dev`, as `make image` calls it), `CONTAINER_RUN` the program
(podman).
"""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from tests.support.processes import ROOT

IMAGE = os.environ.get("WATCHER_IMAGE", "localhost/operation-watcher:dev")
GROUP = 65532
KUBERNETES = ROOT / "deploy" / "kubernetes"


@functools.cache
def program() -> Sequence[str]:
    """The command that runs containers, with the image present. Without one it fails; it never skips."""
    configured = os.environ.get("CONTAINER_RUN")
    if configured is None and shutil.which("podman") is None:
        pytest.fail("needs podman on the PATH (Debian: apt-get install podman), or CONTAINER_RUN that says another")
    found = shlex.split(configured or "podman")
    if subprocess.run([*found, "image", "inspect", IMAGE], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.fail(f"needs the image {IMAGE}: make image, or say another with WATCHER_IMAGE")
    return found


def podman(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [*program(), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{shlex.join(command)}: {done.stderr[-2000:]}"
    return done


def inspect(name: str, field: str) -> str:
    """One field of a container or an image."""
    return podman("inspect", "--format", field, name).stdout.strip()


def pid_of(container: str) -> int:
    """The process on this machine."""
    return int(inspect(container, "{{.State.Pid}}"))


@contextlib.contextmanager
def container(name: str, *arguments: str, options: Sequence[str] = ()) -> Iterator[str]:
    """A container of the image on this machine's network, hardened as the manifests do it."""
    podman("rm", "--force", "--ignore", name)
    hardened = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    podman("run", "--detach", "--name", name, "--network", "host", *hardened, *options, IMAGE, *arguments)
    try:
        yield name
    finally:
        podman("rm", "--force", "--time", "1", "--ignore", name, check=False)


def tool(name: str) -> str:
    """A program of the development environment, else one on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.fail(f"needs {name}: it is in tests/tools.lock, for Linux")
    return found


def rendered(kustomization: Path) -> list[dict[str, Any]]:
    """What kustomize makes of a folder; a copy that may be changed."""
    return copy.deepcopy(_rendered(kustomization))


@functools.cache
def _rendered(kustomization: Path) -> list[dict[str, Any]]:
    command = [tool("kubectl"), "kustomize", str(kustomization)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


class Pod:
    """A pod of the manifests, run by `podman play kube` on this machine's network: the example app with its watcher.

    What podman 4.3 does not know is changed, and nothing else: a native sidecar goes among the containers, fsGroup
    becomes the app's group, probes are the test's own, and the names of Services become addresses of loopback.
    Configuration and secrets become folders, `configuration` and `secret`, so that a test can change them as the
    kubelet does. A claim becomes a volume, NAME-claim. An emptyDir becomes a volume called as the manifest calls it, so
    all get the pod's name, or two pods would share them. `secrets` are those that the operator makes by hand.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        way: str = "example/native",
        *,
        deployment: str = "example-app",
        secrets: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.watcher, self.app = f"{name}-watcher", f"{name}-app"
        self.folder = folder / name
        documents = rendered(KUBERNETES / way)
        self._content = dict(secrets) | {
            document["metadata"]["name"]: _content(document)
            for document in documents
            if document["kind"] in {"ConfigMap", "Secret"}
        }
        (template,) = [
            document["spec"]["template"]
            for document in documents
            if (document["kind"], document["metadata"]["name"]) == ("Deployment", deployment)
        ]
        self.spec = template["spec"]
        self.spec["containers"] += self.spec.pop("initContainers", [])
        self.configuration, self.secret = Path(), Path()
        for volume in self.spec["volumes"]:
            self._put_in_a_folder(volume)
            if "persistentVolumeClaim" in volume:
                volume["persistentVolumeClaim"] = {"claimName": f"{name}-claim"}
        for item in (*self.spec["volumes"], *(m for one in self.spec["containers"] for m in one["volumeMounts"])):
            item["name"] = f"{name}-{item['name']}"
        for each in self.spec["containers"]:
            _adapt(each)

    def environment(self, container: str, variables: Mapping[str, str]) -> None:
        """Add variables to a container."""
        (one,) = [each for each in self.spec["containers"] if each["name"] == container]
        given = {entry["name"]: entry["value"] for entry in one.get("env", [])} | dict(variables)
        one["env"] = [{"name": name, "value": value} for name, value in given.items()]

    def keep_data_in(self, folder: Path) -> None:
        """Use a folder of this machine for the state."""
        os.chown(folder, GROUP, GROUP)
        (volume,) = [each for each in self.spec["volumes"] if each["name"] == f"{self.name}-watcher-data"]
        volume.pop("emptyDir")
        volume["hostPath"] = {"path": str(folder), "type": "Directory"}

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Change settings in the configuration file."""
        file = self.configuration / "config.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | dict(settings)))

    @contextlib.contextmanager
    def running(self) -> Iterator[Pod]:
        """Play it, and take it down."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "pod.yaml"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "spec": self.spec}
        file.write_text(yaml.safe_dump(pod))
        podman("pod", "rm", "--force", "--ignore", self.name)
        podman("play", "kube", "--network", "host", file)
        try:
            yield self
        except BaseException:
            print(podman("pod", "logs", "--tail", "50", self.name, check=False).stdout)
            raise
        finally:
            self.down()

    def down(self) -> None:
        """Take it down, as a deleted pod goes."""
        podman("pod", "rm", "--force", "--time", "10", "--ignore", self.name, check=False)

    def logs(self, container: str) -> list[dict[str, Any]]:
        """The JSON lines of a container's standard output."""
        lines = podman("logs", container).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _put_in_a_folder(self, volume: dict[str, Any]) -> None:
        source = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
        if source is None:
            return
        folder = self.folder / source
        # A secret that two containers mount is one folder.
        folder.mkdir(parents=True, exist_ok=True)
        content = self._content[source]
        for key, text in content.items():
            file = folder / key
            file.unlink(missing_ok=True)
            file.write_text(text.replace("http://simulator:", "http://127.0.0.1:"))
            os.chown(file, 0, GROUP)
            file.chmod(0o440 if "secret" in volume else 0o444)
        if "config.yaml" in content:
            self.configuration = folder
        if "auth_token" in content:
            self.secret = folder
        name = volume["name"]
        volume.clear()
        volume.update(name=name, hostPath={"path": str(folder), "type": "Directory"})


def _content(document: Mapping[str, Any]) -> Mapping[str, str]:
    if document["kind"] == "ConfigMap":
        return dict(document["data"])
    return {key: base64.b64decode(text).decode() for key, text in document["data"].items()}


def _adapt(one: dict[str, Any]) -> None:
    one["image"] = IMAGE
    one["securityContext"]["runAsGroup"] = GROUP
    for key in ("restartPolicy", "resources", "ports", "startupProbe", "livenessProbe", "readinessProbe"):
        one.pop(key, None)
    for entry in one.get("env", []):
        entry["value"] = entry["value"].replace("http://simulator:", "http://127.0.0.1:")
