"""What the chart's objects have to say: of every rendering, and of single ones. `chart_checks.py` renders them."""

import os
import re

from checks import Failed, expect
from go_tools import ROOT

RELEASE, NAMESPACE = "llama", "prod"
NAME = RELEASE + "-epp"
X_K8S = "inference.networking.x-k8s.io"


class Objects:
    """What was rendered, by kind and name; and of the picker its container and flags."""

    def __init__(self, documents):
        self.all = {}
        for document in documents:
            key = (document["kind"], document["metadata"]["name"])
            expect("%s %s stands there twice" % key, key in self.all, False)
            self.all[key] = document
        self.deployment = self.one("Deployment", NAME)["spec"]
        self.pod = self.deployment["template"]["spec"]
        self.container = self.pod["containers"][0]
        self.flags = flags(self.container["args"])

    def one(self, kind, name):
        if (kind, name) not in self.all:
            raise Failed("there is no %s %s" % (kind, name))
        return self.all[kind, name]

    def kinds(self, kind):
        return [value for (found, _), value in self.all.items() if found == kind]


def flags(words):
    """Arguments as upstream's chart writes them: name and value apart, switches alone or with `=`."""
    found, words = {}, list(words)
    while words:
        word = words.pop(0)
        expect("the argument %r begins with two dashes" % word, word.startswith("--"), True)
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = "true" if not words or words[0].startswith("--") else words.pop(0)
        elif value != "false":
            raise Failed("%s: its value is no argument of its own" % word)
        expect("--%s stands there before" % name, name in found, False)
        found[name] = value
    return found


def holds_together(objects, values):
    known = set(re.findall(r"`--([\w-]+)`", open(os.path.join(ROOT, "docs", "flags.md")).read()))
    expect("flags that docs/flags.md does not know", sorted(set(objects.flags) - known), [])
    expect("the pool", [objects.flags[flag] for flag in ("pool-name", "pool-namespace")], [RELEASE, NAMESPACE])
    for (kind, name), document in objects.all.items():
        wanted = None if kind.startswith("Cluster") else NAMESPACE
        expect("the namespace of %s %s" % (kind, name), document["metadata"].get("namespace"), wanted)
        if kind.startswith("Cluster"):
            expect("%s %s has the namespace in its name" % (kind, name), name.startswith(NAMESPACE + "-"), True)

    service = objects.one("Service", NAME)["spec"]
    labels = objects.deployment["template"]["metadata"]["labels"]
    # Upstream's label: a deployment's selector can never be changed.
    for what, selector in (("deployment", objects.deployment["selector"]["matchLabels"]), ("service", service["selector"])):
        expect("the selector of the " + what, selector, {"inferencepool": NAME})
    expect("the labels of the pod", labels, {"inferencepool": NAME})

    ports = {port["name"]: port["containerPort"] for port in objects.container["ports"]}
    for port, flag in (("grpc", "grpc-port"), ("grpc-health", "grpc-health-port"), ("metrics", "metrics-port")):
        expect("the port of --" + flag, str(ports[port]), objects.flags[flag])
    by_name = {port["name"]: port for port in service["ports"]}
    for port in service["ports"]:
        expect("the port %s of the container" % port["targetPort"], port["targetPort"] in ports, True)
    expect("what the service leads to", [by_name[name]["targetPort"] for name in ("grpc-ext-proc", "http-metrics")],
           ["grpc", "metrics"])
    wanted = values["inferenceExtension"]["extProcPort"]
    expect("the service's port and protocol", (by_name["grpc-ext-proc"]["port"], by_name["grpc-ext-proc"]["appProtocol"]),
           (wanted, "http2"))

    spec = objects.one("InferencePool", RELEASE)["spec"]
    if "endpointPickerRef" in spec:
        picker, port = spec["endpointPickerRef"], spec["endpointPickerRef"]["port"]["number"]
        selector = spec["selector"]["matchLabels"]
    else:
        picker, port, selector = spec["extensionRef"], spec["extensionRef"]["portNumber"], spec["selector"]
    expect("the pool's picker", (picker["name"], port), (NAME, wanted))
    expect("the pool's selector", selector, values["inferencePool"]["modelServers"]["matchLabels"])
    group = objects.one("InferencePool", RELEASE)["apiVersion"].split("/")[0]
    expect("the pool's group", objects.flags["pool-group"], group)

    election = objects.flags.get("ha-enable-leader-election") == "true"
    probes = ["liveness", "readiness"] if election else ["inference-extension"] * 2
    found = [objects.container[probe]["grpc"] for probe in ("livenessProbe", "readinessProbe")]
    expect("the probes", found, [{"port": ports["grpc-health"], "service": service} for service in probes])
    grace = objects.pod["terminationGracePeriodSeconds"]
    expect("grace and strategy", (grace, objects.deployment["strategy"]["type"]), (130, "Recreate"))
    secure(objects)


def secure(objects):
    expect("the pod's rights", objects.pod["securityContext"],
           {"runAsNonRoot": True, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}})
    expect("the container's rights", objects.container["securityContext"],
           {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}})
    mounts = objects.container["volumeMounts"]
    expect("mounts that can be written", [mount["name"] for mount in mounts if not mount.get("readOnly")], [])
    expect("mounts", [mount["name"] for mount in mounts], [volume["name"] for volume in objects.pod["volumes"]])


def has_config(objects, values, yaml):
    folder, file = os.path.split(objects.flags["config-file"])
    expect("where the configuration is", folder, objects.container["volumeMounts"][0]["mountPath"])
    expect("the configuration's volume", objects.pod["volumes"][0]["configMap"]["name"], NAME)
    data = objects.one("ConfigMap", NAME)["data"]
    custom = values["inferenceExtension"]["pluginsCustomConfig"]
    expect("the files", sorted(data), sorted({"default-plugins.yaml", file} | set(custom)))
    shipped = yaml.safe_load(open(os.path.join(ROOT, "config", "default-plugins.yaml")))
    expect("default-plugins.yaml", yaml.safe_load(data["default-plugins.yaml"]), shipped)
    for name, text in custom.items():
        expect(name, data[name], text)


def has_rights(objects, values):
    """Every subject and role of a binding is there; and what the picker may do."""
    rights = set()
    for binding in objects.kinds("RoleBinding") + objects.kinds("ClusterRoleBinding"):
        role = objects.one(binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            objects.one(subject["kind"], subject["name"])
            expect("the subject's namespace", subject["namespace"], NAMESPACE)
            if subject["name"] == objects.pod["serviceAccountName"]:
                for rule in role["rules"]:
                    for resource in rule.get("resources", []) + rule.get("nonResourceURLs", []):
                        rights.add("%s: %s" % (resource, " ".join(rule["verbs"])))
    resources = ["inferencemodelrewrites", "inferencemodels", "inferenceobjectives", "inferencepools", "pods"]
    wanted = {"%s: get list watch" % resource for resource in resources}
    if values["inferenceExtension"]["monitoring"]["prometheus"]["auth"]["enabled"]:
        wanted |= {"tokenreviews: create", "subjectaccessreviews: create"}
    if objects.flags.get("ha-enable-leader-election") == "true":
        wanted.add("leases: get create update")
    expect("what the picker may do", sorted(rights), sorted(wanted))
    groups = {resource: rule["apiGroups"] for rule in objects.one("Role", NAME)["rules"] for resource in rule["resources"]}
    expect("the group of the pool", groups["inferencepools"], [objects.flags["pool-group"]])
    for resource in ("inferenceobjectives", "inferencemodelrewrites"):
        expect("the groups of " + resource, groups[resource], [X_K8S, "llm-d.ai"])


def one_replica(objects):
    kinds = ["ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "InferencePool", "Role", "RoleBinding",
             "Service", "ServiceAccount"]
    expect("the kinds", sorted(kind for kind, _ in objects.all), kinds)
    expect("the image", objects.container["image"], "epp:dev")
    expect("replicas", objects.deployment["replicas"], 1)
    expect("the ports", objects.one("InferencePool", RELEASE)["spec"]["targetPorts"], [{"number": 8000}])
    expect("the flags", sorted(objects.flags), ["config-file", "grpc-health-port", "grpc-port", "metrics-port", "pool-group",
                                                "pool-name", "pool-namespace"])


def high_availability(objects):
    expect("replicas", objects.deployment["replicas"], 3)
    expect("--ha-enable-leader-election", objects.flags.get("ha-enable-leader-election"), "true")
    # Only the leader is ready: a budget would keep it where it is.
    expect("budgets", objects.kinds("PodDisruptionBudget"), [])


def all_serve(objects):
    expect("--ha-enable-leader-election", objects.flags["ha-enable-leader-election"], "false")
    budget = objects.one("PodDisruptionBudget", NAME)["spec"]
    expect("the budget", budget, {"maxUnavailable": 1, "selector": {"matchLabels": {"inferencepool": NAME}}})


def monitoring(objects):
    monitor = objects.one("ServiceMonitor", NAME)
    service = objects.one("Service", NAME)
    selector = monitor["spec"]["selector"]["matchLabels"]
    expect("what is scraped", selector, {key: service["metadata"]["labels"][key] for key in selector})
    expect("extraLabels", monitor["metadata"]["labels"]["a"], "b")
    reader = NAME + "-metrics-reader"
    expect("the endpoint", monitor["spec"]["endpoints"], [{
        "port": "http-metrics", "path": "/metrics", "interval": "30s",
        "authorization": {"type": "Bearer", "credentials": {"name": reader, "key": "token"}}}])
    secret = objects.one("Secret", reader)
    expect("the secret", (secret["type"], secret["metadata"]["annotations"]),
           ("kubernetes.io/service-account-token", {"kubernetes.io/service-account.name": reader}))
    objects.one("ServiceAccount", reader)
    rules = objects.one("ClusterRole", "%s-%s" % (NAMESPACE, reader))["rules"]
    expect("what the reader may do", rules, [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}])


def monitoring_for_all(objects):
    expect("--metrics-endpoint-auth", objects.flags.get("metrics-endpoint-auth"), "false")
    endpoint = objects.one("ServiceMonitor", NAME)["spec"]["endpoints"][0]
    expect("the endpoint", endpoint, {"port": "http-metrics", "path": "/metrics", "interval": "10s"})
    expect("what is for tokens only", objects.kinds("Secret") + objects.kinds("ClusterRole"), [])


def certificate(objects):
    expect("--cert-path", objects.flags.get("cert-path"), "/certs")
    expect("its mount", objects.container["volumeMounts"][1],
           {"name": "certs", "mountPath": "/certs", "readOnly": True})
    expect("its volume", objects.pod["volumes"][1], {"name": "certs", "secret": {"secretName": "epp-tls"}})


def as_documented(heading):
    """The flags are those of a section of docs/model-servers.md, less those that the chart leaves to its user."""
    def check(objects):
        page = open(os.path.join(ROOT, "docs", "model-servers.md")).read()
        expect("sections %s of docs/model-servers.md" % heading, page.count("\n## %s\n" % heading), 1)
        section = page.split("\n## %s\n" % heading)[1].split("\n## ")[0]
        wanted = dict(re.findall(r'--([\w-]+) ("[^"]*"|[^\s"]+)', "".join(
            line for line in section.splitlines(True) if line.startswith("    "))))
        wanted = {flag: value.strip('"') for flag, value in wanted.items() if flag != "model-server-metrics-port"}
        found = {flag: value for flag, value in objects.flags.items()
                 if flag.endswith("-metric") or flag.startswith("model-server")}
        expect("the flags of " + heading, found, wanted)
        expect("are there any", len(wanted) > 4, True)
    return check


def several_ports(objects):
    ports = objects.one("InferencePool", RELEASE)["spec"]["targetPorts"]
    expect("the ports", ports, [{"number": 8000}, {"number": 8001}])


def older_group(objects):
    found = objects.one("InferencePool", RELEASE)
    expect("the pool", (found["apiVersion"], found["spec"]["targetPortNumber"]), (X_K8S + "/v1alpha2", 8080))


def flags_given(objects):
    found = [objects.flags[flag] for flag in ("v", "max-body-bytes", "emit-endpoint-scores", "trust-client-headers")]
    expect("the flags", found, ["4", "134217728", "true", "false"])
    expect("the ports", [objects.flags["grpc-port"], objects.flags["metrics-port"]], ["9102", "9190"])


def flags_listed(objects):
    expect("the flags", [objects.flags["zap-encoder"], objects.flags["v"]], ["json", "3"])


def more_ports(objects):
    expect("the container's port", objects.container["ports"][3], {"name": "zmq", "containerPort": 5557})
    expect("the service's port", objects.one("Service", NAME)["spec"]["ports"][2]["port"], 5557)
    names = [variable["name"] for variable in objects.container["env"]]
    expect("the environment", names, ["NAMESPACE", "POD_NAME", "SD_QUEUE_DEPTH_THRESHOLD"])


def istio(objects):
    expect("the rule", objects.one("DestinationRule", NAME)["spec"], {
        "host": "%s.%s.svc.cluster.local" % (NAME, NAMESPACE),
        "trafficPolicy": {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}}})


def custom_plugins(objects):
    expect("--config-file", objects.flags["config-file"], "/config/mine.yaml")


SPECIAL = {
    "one replica": one_replica, "high availability": high_availability, "three that serve": all_serve,
    "monitoring": monitoring, "monitoring for all": monitoring_for_all, "a certificate": certificate,
    "triton": as_documented("Triton"), "sglang": as_documented("SGLang"),
    "trtllm-serve": as_documented("TensorRT-LLM (`trtllm-serve`)"), "custom plugins": custom_plugins,
    "several ports": several_ports, "the older group": older_group, "flags": flags_given,
    "flags as a list": flags_listed, "ports and environment": more_ports, "istio": istio,
}
