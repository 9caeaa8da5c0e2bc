"""Renders a chart by Helm's own engine, and holds what comes to the schemas of Kubernetes' API.

    chart.py CHART VALUES

VALUES is a file with values that docs/deploy.md prints.
Needs helm-python-sdk and kubernetes-validate, see tests/deploy/requirements.txt.
"""
import json
import sys
import warnings

import helm_python
import kubernetes_validate
import yaml

# The oldest that Chart.yaml names, and the newest that the schemas know.
VERSIONS = ["1.25", "1.37"]
# What the Prometheus operator adds to the API. Its schemas are not in the package: the fields that are written here.
OPERATOR = {
    "ServiceMonitor": {"selector", "endpoints"},
    "PrometheusRule": {"groups"},
}
URL = {"database": {"url": "postgresql://walcast@db.example.com/shop"}}
AUTH = '[auth]\nalgorithms = ["HS256"]\nsecret_file = "../secrets/jwt.key"\n'
# Values, and the kinds that have to come of them.
BASE = ["NetworkPolicy", "PodDisruptionBudget", "Service", "Service", "StatefulSet"]
GOOD = {
    "as few as possible": ({**URL, "insecure": True}, BASE),
    "everything": (
        {
            **URL,
            "replicas": 3,
            "imagePullSecrets": [{"name": "registry"}],
            "env": {"WALCAST_MAX_CONNECTIONS": "50000"},
            "config": AUTH,
            "configSecret": "walcast-keys",
            "allowOrigin": ["https://app.example.com"],
            "trustedProxies": ["10.0.0.0/8"],
            "tlsSecret": "stream-tls",
            "adminTokenSecret": {"name": "walcast-admin", "key": "token"},
            "persistence": {"size": "100Gi", "storageClass": "fast"},
            "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}},
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "stream.example.com",
                "tlsSecret": "stream-tls",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "75"},
            },
            "networkPolicy": {"clients": [{"namespaceSelector": {}}]},
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "nodeSelector": {"disk": "local"},
            "tolerations": [{"key": "walcast", "operator": "Exists"}],
            "podAnnotations": {"example.com/a": "b"},
        },
        BASE + ["ConfigMap", "Ingress", "PrometheusRule", "ServiceMonitor"],
    ),
    "nothing around it": (
        {
            **URL,
            "insecure": True,
            "replicas": 1,
            "podDisruptionBudget": {"enabled": False},
            "networkPolicy": {"enabled": False},
        },
        ["Service", "Service", "StatefulSet"],
    ),
}
# Values, and a word of what is said of them.
BAD = [
    ({"insecure": True}, "database"),
    ({**URL}, "insecure"),
    ({"insecure": True, "database": {"url": "mysql://db/shop"}}, "url"),
    ({**URL, "insecure": True, "replica": 2}, "replica"),
    ({**URL, "insecure": True, "replicas": 0}, "replicas"),
    ({**URL, "insecure": True, "env": {"max": "5"}}, "max"),
    ({**URL, "insecure": True, "ingress": {"enabled": True}}, "host"),
]


def fail(words):
    sys.exit(words)


def check_operator(manifest):
    kind = manifest["kind"]
    if manifest["apiVersion"] != "monitoring.coreos.com/v1" or set(manifest["spec"]) != OPERATOR[kind]:
        fail(f"{kind}: {manifest}")
    if kind == "PrometheusRule":
        rules = [rule for group in manifest["spec"]["groups"] for rule in group["rules"]]
        if not any("$labels.instance" in rule.get("annotations", {}).get("summary", "") for rule in rules):
            fail("the templates of the alerts were filled in by Helm")


def check(manifests, name):
    selectors = []
    for manifest in manifests:
        if manifest["kind"] in OPERATOR:
            check_operator(manifest)
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
        if manifest["kind"] == "StatefulSet":
            pod = manifest["spec"]["template"]
            container = pod["spec"]["containers"][0]
            volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | {"data"}
            for mount in container["volumeMounts"]:
                if mount["name"] not in volumes:
                    fail(f"{name}: there is no volume {mount['name']}")
            labels = pod["metadata"]["labels"].items()
        selectors += [
            chosen
            for spec in [manifest.get("spec", {})]
            for chosen in [spec.get("selector"), spec.get("podSelector")]
            if chosen
        ]
    for selector in selectors:
        chosen = selector.get("matchLabels", selector)
        if not chosen.items() <= labels:
            fail(f"{name}: {selector} chooses none of the pods")


def main(path, printed):
    with open(printed, encoding="utf-8") as file:
        GOOD["what docs/deploy.md prints"] = (yaml.safe_load(file), BASE + ["ConfigMap"])
    warnings.simplefilter("ignore")
    helm_python.disable_logging()
    linted = helm_python.lint(path, {**URL, "insecure": True})
    if linted["errors"] or any(message["severity"] > 1 for message in linted["messages"]):
        fail(f"helm lint: {linted}")
    with helm_python.Chart.load(path) as chart:
        for name, (values, kinds) in GOOD.items():
            rendered = chart.render(values, name="walcast", namespace="prod")
            texts = [text for file, text in sorted(rendered.items()) if file.endswith(".yaml")]
            manifests = [one for text in texts for one in yaml.safe_load_all(text) if one]
            if sorted(one["kind"] for one in manifests) != sorted(kinds):
                fail(f"{name}: {[one['kind'] for one in manifests]}")
            check(manifests, name)
        for values, word in BAD:
            try:
                chart.render(values, name="walcast", namespace="prod")
            except helm_python.HelmError as error:
                if word not in str(error):
                    fail(f"{values}: {error}")
            else:
                fail(f"{json.dumps(values)} was accepted")
    print("checked")


main(sys.argv[1], sys.argv[2])
