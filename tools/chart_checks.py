#!/usr/bin/env python3
"""Checks the Helm chart: renders it for a table of values, looks at the objects, and starts `epp` with their arguments.

`make test-extra` runs it. It needs helm, or Go to build it, and PyYAML, which it installs for itself; what is missing is
skipped, and said so. No cluster sees anything of it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import go_tools
import python_tools
from chart_expectations import NAMESPACE, NAME, RELEASE, SPECIAL, X_K8S, Objects, has_config, has_rights
from chart_expectations import holds_together
from checks import Failed, Skipped, expect, run
from image_checks import ENDPOINTS, start_and_stop, write

ROOT = go_tools.ROOT
CHART = os.path.join(ROOT, "config", "charts", "epp")
PYYAML = "pyyaml==6.0.2"
CUSTOM = """apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: random-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: random-picker}
"""
REQUIRED = {
    "inferenceExtension": {"image": {"name": "epp", "tag": "dev"}},
    "inferencePool": {"modelServers": {"matchLabels": {"app": "llama"}}},
}
NO_ELECTION = {"inferenceExtension": {"replicas": 3, "flags": {"ha-enable-leader-election": False}}}


def pool(**values):
    return {"inferencePool": values}


def extension(**values):
    return {"inferenceExtension": values}


# What is rendered, and by which function besides `holds_together` it is looked at.
VALUES = {
    "one replica": {},
    "high availability": extension(replicas=3),
    "three that serve": NO_ELECTION,
    "monitoring": extension(monitoring={"interval": "30s", "prometheus": {"enabled": True, "extraLabels": {"a": "b"}}}),
    "monitoring for all": extension(monitoring={"prometheus": {"enabled": True, "auth": {"enabled": False}}}),
    "a certificate": extension(tls={"secretName": "epp-tls"}),
    "triton": pool(modelServerType="triton-tensorrt-llm"),
    "sglang": pool(modelServerType="sglang"),
    "trtllm-serve": pool(modelServerType="trtllm-serve"),
    "custom plugins": extension(pluginsConfigFile="mine.yaml", pluginsCustomConfig={"mine.yaml": CUSTOM}),
    "several ports": pool(targetPorts=[{"number": 8000}, {"number": 8001}]),
    "the older group": pool(apiVersion=X_K8S + "/v1alpha2", targetPortNumber=8080),
    "flags": extension(extProcPort=9102, flags={"v": 4, "max-body-bytes": 134217728, "emit-endpoint-scores": True,
                                                "trust-client-headers": False, "metrics-port": 9190}),
    "flags as a list": extension(flags=[{"name": "zap-encoder", "value": "json"}, {"name": "v", "value": "3"}]),
    "ports and environment": extension(
        env=[{"name": "SD_QUEUE_DEPTH_THRESHOLD", "value": "7"}],
        extraContainerPorts=[{"name": "zmq", "containerPort": 5557}],
        extraServicePorts=[{"name": "zmq", "port": 5557, "targetPort": "zmq"}]),
    "istio": {"provider": {"name": "istio"}},
}

# Values that must be refused, and a part of the reason.
BAD = {
    "no image": (extension(image={"name": "", "tag": ""}), "inferenceExtension.image.name and .tag are required"),
    "no tag": (extension(image={"tag": ""}), "no image of epp is published"),
    "no labels": (pool(modelServers={"matchLabels": None}), "inferencePool.modelServers.matchLabels is required"),
    "misspelt": (extension(replica=2), "'replica' not allowed"),
    "misspelt at the top": ({"inferencepool": {}}, "'inferencepool' not allowed"),
    "a text as a number": (extension(replicas="2"), "got string, want integer"),
    "no replica": (extension(replicas=0), "replicas"),
    "an unknown server": (pool(modelServerType="vlm"), "modelServerType"),
    "an unknown version": (pool(apiVersion="inference.networking.k8s.io/v2"), "apiVersion"),
    "dashes": (extension(flags={"--v": 4}), "--v"),
    "camel case": (extension(flags={"grpcPort": 1}), "in lower case with dashes"),
    "the pool's name": (extension(flags={"pool-name": "x"}), "the chart sets it"),
    "two certificates": (extension(tls={"secretName": "x"}, flags={"cert-path": "/x"}), "set only one of them"),
    "no such plugins": (extension(pluginsConfigFile="mine.yaml"), "there is no mine.yaml in pluginsCustomConfig"),
    "two ports of old": (pool(apiVersion=X_K8S + "/v1alpha2", targetPorts=[{"number": 1}, {"number": 2}]), "has one port"),
    "gke": ({"provider": {"name": "gke"}}, "provider.name=gke is not supported"),
}


def main():
    chart = Chart()
    checks = [("helm is there", chart.find_helm), ("lints", chart.lints), ("values, schema and README", chart.is_told)]
    checks += [("renders %s" % name, lambda name=name: chart.renders(name)) for name in VALUES]
    checks += [("refuses %s" % name, lambda name=name: chart.refuses(name)) for name in BAD]
    checks.append(("epp takes the arguments", chart.starts))
    sys.exit(run("chart", checks))


def merged(one, other):
    """Values over values, as helm does it."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return dict(one, **{key: merged(one.get(key), value) for key, value in other.items()})


class Chart:
    def __init__(self):
        self.helm = self.yaml = None
        self.folder = tempfile.TemporaryDirectory()
        # Name → what was rendered.
        self.rendered = {}

    def find_helm(self):
        self.helm = go_tools.find(go_tools.HELM)
        self.yaml = find_yaml()
        return "%s, PyYAML %s" % (self.call("version", "--short")[1].strip(), self.yaml.__version__)

    def call(self, *words):
        if self.yaml is None:
            raise Skipped("there is no helm, or no PyYAML")
        child = subprocess.run([self.helm] + list(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return child.returncode, child.stdout, child.stderr

    def values(self, values):
        """A file with these values and those that are required."""
        path = os.path.join(self.folder.name, "values.json")
        write(path, json.dumps(merged(REQUIRED, values)))
        return path

    def lints(self):
        for name, values in VALUES.items():
            status, said, _ = self.call("lint", "--strict", CHART, "-f", self.values(values))
            if status != 0:
                raise Failed("%s: %s" % (name, said.strip()))
        return "%d sets of values" % len(VALUES)

    def is_told(self):
        """values.yaml, the schema and the README know the same values; the chart is of the crate's version."""
        if self.yaml is None:
            raise Skipped("there is no PyYAML")
        values = self.load("values.yaml")[0]
        schema = json.load(open(os.path.join(CHART, "values.schema.json")))
        in_values, in_schema = set(leaves(values)), set(properties(schema)) - {"global"}
        expect("in values.yaml or the schema only", in_values ^ in_schema, set())
        readme = open(os.path.join(CHART, "README.md")).read()
        expect("not in README.md", [path for path in sorted(in_values) if "`%s`" % path not in readme], [])
        version = re.search(r'^version = "(.*)"', open(os.path.join(ROOT, "Cargo.toml")).read(), re.M).group(1)
        expect("appVersion", self.load("Chart.yaml")[0]["appVersion"], version)
        return "%d values" % len(in_values)

    def load(self, name):
        return list(self.yaml.safe_load_all(open(os.path.join(CHART, name))))

    def template(self, values):
        return self.call("template", RELEASE, CHART, "--namespace", NAMESPACE, "-f", self.values(values))

    def renders(self, name):
        status, text, reason = self.template(VALUES[name])
        if status != 0:
            raise Failed(reason.strip())
        objects = Objects([doc for doc in self.yaml.safe_load_all(text) if doc])
        values = merged(merged(self.load("values.yaml")[0], REQUIRED), VALUES[name])
        holds_together(objects, values)
        has_config(objects, values, self.yaml)
        has_rights(objects, values)
        special = SPECIAL.get(name)
        if special:
            special(objects)
        self.rendered[name] = objects
        return "%d objects" % len(objects.all)

    def refuses(self, name):
        values, reason = BAD[name]
        status, _, said = self.template(values)
        if status == 0:
            raise Failed("it is rendered")
        if reason not in said:
            raise Failed("the reason is %r, expected %r" % (said.strip(), reason))
        return reason

    def starts(self):
        """`epp` serves with the arguments, though with endpoints from a file, and without what a cluster would mount."""
        if not self.rendered:
            raise Skipped("nothing was rendered")
        if subprocess.run(["cargo", "build", "--quiet", "--bin", "epp"], cwd=ROOT).returncode != 0:
            raise Failed("epp does not build")
        epp = os.path.join(go_tools.TARGET, "debug", "epp")
        endpoints, config = (os.path.join(self.folder.name, name) for name in ("endpoints.yaml", "config.yaml"))
        write(endpoints, ENDPOINTS)
        here = ["--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0", "--cert-path=", "--zap-encoder=json", "--v=2"]
        here += ["--endpoints-file", endpoints, "--config-file", config]
        started = 0
        for name, objects in self.rendered.items():
            # A lease needs a cluster.
            if objects.flags.get("ha-enable-leader-election") != "true":
                file = os.path.basename(objects.flags["config-file"])
                write(config, objects.one("ConfigMap", NAME)["data"][file])
                try:
                    start_and_stop([epp] + objects.container["args"] + here)
                except Failed as failure:
                    raise Failed("%s: %s" % (name, failure))
                started += 1
        return "%d starts" % started


def find_yaml():
    """PyYAML, from this machine or from PyPI."""
    try:
        import yaml
    except ImportError:
        sys.path.append(python_tools.install(PYYAML))
        import yaml
    return yaml


def leaves(values, path=""):
    """The paths of values.yaml; where a map is empty, it is a value."""
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in ("strategy", "trafficPolicy"):
            yield from leaves(value, path + key + ".")
        else:
            yield path + key


def properties(schema, path=""):
    """The paths of the schema that are refused if they are misspelt."""
    for key, value in schema["properties"].items():
        if value.get("additionalProperties") is False and "properties" in value:
            yield from properties(value, path + key + ".")
        else:
            yield path + key


if __name__ == "__main__":
    main()
