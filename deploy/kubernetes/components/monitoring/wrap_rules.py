"""Write prometheusrule.yaml: the rules of deploy/prometheus, word for word, for the Prometheus operator."""

from pathlib import Path

HERE = Path(__file__).parent
RULES = HERE.parents[2] / "prometheus" / "operation-watcher.rules.yaml"
HEAD = """\
# Written by wrap_rules.py from deploy/prometheus/operation-watcher.rules.yaml; change that instead.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: operation-watcher
  labels: {app.kubernetes.io/name: operation-watcher}
spec:
"""


def resource() -> str:
    """The text of the resource."""
    lines = RULES.read_text().splitlines()
    return HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    (HERE / "prometheusrule.yaml").write_text(resource())
