"""Manifests, compose file and Dockerfile: valid by the tools of the trade, and as hardened as they promise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.support.containers import KUBERNETES, rendered, tool
from tests.support.processes import ROOT
from watcher.config import load

DEPLOY = ROOT / "deploy"
WAYS = ("example/native", "example/classic", "standalone")
OPERATOR = "monitoring.coreos.com/v1"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(way: str, kind: str | None = None) -> list[dict[str, Any]]:
    return [document for document in rendered(KUBERNETES / way) if kind in (None, document["kind"])]


def pods(way: str) -> list[dict[str, Any]]:
    return [document["spec"]["template"]["spec"] for document in documents(way, "Deployment")]


def watcher_of(way: str) -> dict[str, Any]:
    (found,) = [one for pod in pods(way) for one in containers(pod) if one["name"] == "watcher"]
    return found


def containers(pod: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


# ── Kubernetes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
# The oldest that supports native sidecars by default, and the newest that the validator has.
@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_the_manifests_are_valid(way: str, version: str):
    for document in documents(way):
        if document["apiVersion"] != OPERATOR:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("way", WAYS)
def test_the_resources_of_the_operator_are_what_it_takes(way: str):
    (monitor,) = documents(way, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert monitor["spec"].keys() == {"selector", "podMetricsEndpoints"}
    assert endpoint.keys() == {"port", "path", "interval", "scrapeTimeout", "relabelings"}
    # The job that the rules select, and the existing pods.
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "operation-watcher"}]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    scraped = [d for d in documents(way, "Deployment") if wanted <= d["spec"]["template"]["metadata"]["labels"].items()]
    assert len(scraped) == 1
    named = [port["name"] for one in containers(scraped[0]["spec"]["template"]["spec"]) for port in one["ports"]]
    assert named.count(endpoint["port"]) == 1


def test_the_rules_of_the_operator_are_those_that_are_tested(tmp_path: Path):
    committed = KUBERNETES / "components" / "monitoring" / "prometheusrule.yaml"
    copied = tmp_path / "deploy"
    shutil.copytree(DEPLOY, copied)
    subprocess.run([sys.executable, copied / "kubernetes/components/monitoring/wrap_rules.py"], check=True)
    assert (copied / "kubernetes/components/monitoring/prometheusrule.yaml").read_text() == committed.read_text()
    rules = yaml.safe_load((DEPLOY / "prometheus" / "operation-watcher.rules.yaml").read_text())
    for way in WAYS:
        (rule,) = documents(way, "PrometheusRule")
        assert rule["spec"] == rules


@pytest.mark.parametrize("way", WAYS)
def test_every_container_is_restricted(way: str):
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    for pod in pods(way):
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        for volume in pod.get("volumes", []):
            assert volume.keys() & {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        for one in containers(pod):
            context = pod.get("securityContext", {}) | one["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["runAsUser"] > 0
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert one["resources"]["requests"].keys() == {"cpu", "memory"}
            assert one["resources"]["limits"].keys() == {"memory"}
            assert not any("subPath" in mount for mount in one.get("volumeMounts", []))


def test_the_native_sidecar_starts_before_the_app_and_never_counts_for_its_readiness():
    (pod,) = [pod for pod in pods("example/native") if "initContainers" in pod]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["args"] == ["run", "--stay"]
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/-/ready", "port": "metrics"}
    assert sidecar["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "metrics"}
    assert "readinessProbe" not in sidecar


def test_the_classic_sidecar_lingers_for_less_than_the_pod_is_given():
    (pod,) = [pod for pod in pods("example/classic") if len(pod["containers"]) == 2]
    sidecar = watcher_of("example/classic")
    assert "restartPolicy" not in sidecar
    assert "readinessProbe" not in sidecar
    assert sidecar["args"][:3] == ["run", "--stay", "--linger"]
    assert int(sidecar["args"][3].removesuffix("s")) + 5 < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("way", ["example/native", "example/classic"])
def test_app_and_watcher_share_the_socket_and_a_group(way: str):
    (pod,) = [pod for pod in pods(way) if len(containers(pod)) == 2]
    assert pod["securityContext"]["fsGroup"] == 65532
    mounts = [{m["name"]: m["mountPath"] for m in one["volumeMounts"]} for one in containers(pod)]
    assert [each["watcher-socket"] for each in mounts] == ["/run/watcher"] * 2
    for volume in pod["volumes"]:
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


def test_only_the_standalone_watcher_discovers_and_it_never_runs_twice():
    for way in WAYS:
        (settings,) = [d["data"]["config.yaml"] for d in documents(way, "ConfigMap") if "config.yaml" in d["data"]]
        (account,) = yaml.safe_load(settings)["accounts"]
        assert account.get("discover", False) is (way == "standalone")
    (deployment,) = documents("standalone", "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert "persistentVolumeClaim" in str(deployment)


@pytest.mark.parametrize("way", WAYS)
def test_the_configuration_that_is_mounted_is_one_that_the_watcher_takes(way: str, tmp_path: Path):
    (settings,) = [d["data"]["config.yaml"] for d in documents(way, "ConfigMap") if "config.yaml" in d["data"]]
    for secret in ("/run/secrets/twilio/auth_token", "/run/secrets/watcher/token"):
        file = tmp_path / secret.replace("/", "_")
        file.write_text("secret")
        settings = settings.replace(secret, str(file))
    file = tmp_path / "config.yaml"
    # Paths of the image, and what only a later release of the watcher takes, are judged elsewhere.
    file.write_text(settings)
    loaded = load(file, {})
    (account,) = loaded.configuration.accounts
    assert account.name == "main"


def test_every_kustomization_of_the_tree_is_rendered_here():
    roots = {path.parent.relative_to(KUBERNETES).as_posix() for path in KUBERNETES.rglob("kustomization.yaml")}
    assert roots - {"base", "example/simulator"} - {root for root in roots if root.startswith("components/")} == set(
        WAYS
    )


# ── image and compose ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_dockerfile_is_clean():
    run(tool("hadolint"), "--failure-threshold", "style", "Dockerfile")


def test_what_the_image_installs_is_pinned_by_hash_and_needs_no_compiler():
    commands = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text()).split("&&")
    installing = [command for command in commands if " install " in command]
    assert [command for command in installing if ".lock" not in command and "--no-index" not in command] == []
    from_locks = [command for command in installing if ".lock" in command]
    assert len(from_locks) == 2
    for command in from_locks:
        assert "--require-hashes" in command
        assert "--only-binary :all:" in command


def compose() -> dict[str, Any]:
    found = json.loads(run(tool("docker-compose"), "-f", "deploy/compose/compose.yaml", "config", "--format", "json"))
    assert isinstance(found, dict)
    return found


def test_the_compose_file_is_read_as_it_is_meant():
    services = compose()["services"]
    assert services.keys() == {"simulator", "watcher", "app", "receiver", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert name == "simulator" or service["network_mode"] == "service:simulator"
        for mount in service.get("volumes", []):
            assert mount["type"] == "volume" or Path(mount["source"]).exists(), mount["source"]
        if service["image"] == "operation-watcher:dev":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


def test_the_compose_file_publishes_to_this_machine_alone_what_its_head_names():
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    published = {port["published"] for port in compose()["services"]["simulator"]["ports"]}
    assert all(port["host_ip"] == "127.0.0.1" for port in compose()["services"]["simulator"]["ports"])
    assert published == set(re.findall(r"localhost:(\d+)", text.partition("services:")[0]))


def test_grafana_finds_its_source_and_its_dashboard():
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://localhost:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "operation-watcher.yaml").read_text())["providers"]
    mounts = {mount["target"]: Path(mount["source"]) for mount in compose()["services"]["grafana"]["volumes"]}
    assert mounts["/etc/grafana/provisioning"] == provisioning
    dashboard = mounts[f"{provider['options']['path']}/operation-watcher.json"]
    assert json.loads(dashboard.read_text())["uid"] == "operation-watcher"
