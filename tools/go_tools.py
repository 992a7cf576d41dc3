"""Finds helm and promtool, or builds them with Go, each at one version, into `target/tools/bin`."""

import json
import os
import shutil
import subprocess

from checks import Skipped

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.abspath(os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target"))
BIN = os.path.join(TARGET, "tools", "bin")
HELM = ("helm", "helm.sh/helm/v3", "v3.20.2")
PROMTOOL = ("promtool", "github.com/prometheus/prometheus", "v0.313.5")


def find(tool):
    """The path of a tool, which is built if need be; skips if that cannot be done."""
    name, module, version = tool
    found = shutil.which(name)
    if found:
        return found
    built = os.path.join(BIN, "%s-%s" % (name, version))
    if not os.path.exists(built):
        if not shutil.which("go"):
            raise Skipped("there is neither %s nor Go, which builds it" % name)
        build(name, module, version, built)
    return built


def build(name, module, version, built):
    print("building %s %s with Go, once; some minutes" % (name, version), flush=True)
    # `go install` takes no module that replaces others, as Prometheus does; the module's own folder does.
    downloaded = go(["mod", "download", "-json", "%s@%s" % (module, version)], None)
    folder = json.loads(downloaded)["Dir"]
    os.makedirs(BIN, exist_ok=True)
    # Without the clients of two dozen clouds.
    tags = ["-tags", "remove_all_sd"] if name == "promtool" else []
    go(["build", "-o", built] + tags + ["./cmd/" + name], folder)


def go(words, folder):
    env = dict(os.environ, GOWORK="off", GOFLAGS="-buildvcs=false")
    # Go wants no module around it when it only downloads.
    child = subprocess.run(["go"] + words, cwd=folder or os.path.abspath(os.sep), env=env,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if child.returncode != 0:
        said = (child.stderr + child.stdout).decode(errors="replace").strip()
        raise Skipped("go %s: %s" % (" ".join(words), said.splitlines()[-1] if said else child.returncode))
    return child.stdout.decode()
