#!/usr/bin/env python3
"""Checks the image as far as that goes without a container engine; `make test-extra` runs it.

Builds the image's binary in a folder that holds what the Dockerfile copies and nothing else, then looks at the binary
and runs it. What cannot be checked here is skipped, and said so. The Dockerfile itself is never executed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from checks import Failed, Skipped, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAX_BYTES = 25_000_000
MAX_START = 0.3
STARTS = 10
# A start that takes longer is one that does not come.
PATIENCE = 60
LIBRARIES = re.compile(r"^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-.*\.so\.\d)$")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
USER = "65532"
CONFIG = os.path.join(ROOT, "config", "default-plugins.yaml")
ENDPOINTS = "endpoints:\n- {name: none, address: 127.0.0.1, port: 9}\n"


def main():
    checks = Checks(dockerfile())
    methods = (
        checks.copies_what_is_there,
        checks.labels_and_user,
        checks.builds_from_what_it_copies,
        checks.says_its_commit,
        checks.is_small,
        checks.needs_few_libraries,
        checks.knows_the_flags_and_ports,
        checks.starts_fast,
        checks.runs_read_only_without_rights,
    )
    sys.exit(run("image", [(method.__name__.replace("_", " "), method) for method in methods]))


def dockerfile():
    """The instructions of the Dockerfile: (name, the rest of the line)."""
    text = "".join(line for line in open(os.path.join(ROOT, "Dockerfile")) if not line.startswith("#"))
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [tuple(line.split(None, 1)) for line in lines if line]


class Checks:
    def __init__(self, instructions):
        self.instructions = instructions
        # (sources, destination) of what comes from the repository, and how many of these the builder gets.
        self.copies, self.n_builder = [], 0
        for name, rest in instructions:
            if name == "COPY" and "--from=" not in rest:
                *sources, destination = rest.split()
                self.copies.append((sources, destination))
            elif name == "RUN":
                self.n_builder = len(self.copies)
        self.binary = None

    def all(self, name):
        return [rest for instruction, rest in self.instructions if instruction == name]

    def built(self):
        if self.binary is None:
            raise Skipped("there is no binary")
        return self.binary

    def copies_what_is_there(self):
        """Each source of a COPY exists, and .dockerignore, which lists what may pass, lets it."""
        ignore = open(os.path.join(ROOT, ".dockerignore")).read().split("\n")
        sources = [source for copy, _ in self.copies for source in copy]
        for source in sources:
            if not os.path.exists(os.path.join(ROOT, source)):
                raise Failed("the Dockerfile copies %s, which is not there" % source)
            if "!" + source not in ignore:
                raise Failed("the Dockerfile copies %s, which .dockerignore keeps back" % source)
        return "%d sources" % len(sources)

    def labels_and_user(self):
        version = re.search(r'^version = "(.*)"', open(os.path.join(ROOT, "Cargo.toml")).read(), re.M).group(1)
        labels = " ".join(self.all("LABEL"))
        for key, value in (("version", version), ("licenses", "Apache-2.0"), ("revision", "${EPP_COMMIT}")):
            if 'org.opencontainers.image.%s="%s"' % (key, value) not in labels:
                raise Failed("no label %s with the value %s" % (key, value))
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", self.all("USER")[-1]):
            raise Failed("USER is not the number of a user without rights")
        return version

    def builds_from_what_it_copies(self):
        # Always the same folder, or Cargo would compile our packages anew each time.
        target = os.path.abspath(os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target"))
        context = os.path.join(target, "image-context")
        shutil.rmtree(context, ignore_errors=True)
        for sources, destination in self.copies[: self.n_builder]:
            copy(sources, os.path.join(context, destination))
        env = dict(os.environ, CARGO_TARGET_DIR=target, EPP_COMMIT=COMMIT, EPP_BUILD_REF="v0")
        began = time.monotonic()
        command = ["cargo", "build", "--quiet", "--locked", "--profile", "image", "--bin", "epp"]
        if subprocess.run(command, cwd=context, env=env).returncode != 0:
            raise Failed("what the Dockerfile copies does not build")
        self.binary = os.path.join(target, "image", "epp")
        return "%.0f s" % (time.monotonic() - began)

    def says_its_commit(self):
        said = output([self.built(), "--version"])
        if not re.fullmatch(r"epp \d+\.\d+\.\d+\S* \(%s\)\n" % COMMIT, said):
            raise Failed("built with EPP_COMMIT=%s, --version says %r" % (COMMIT, said))
        return said.strip()

    def is_small(self):
        size = os.path.getsize(self.built())
        if size > MAX_BYTES:
            raise Failed("%.1f MB, at most %.1f" % (size / 1e6, MAX_BYTES / 1e6))
        return "%.1f MB" % (size / 1e6)

    def needs_few_libraries(self):
        binary = self.built()
        if not shutil.which("readelf"):
            raise Skipped("there is no readelf")
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output(["readelf", "-dW", binary]))
        strange = [name for name in needed if not LIBRARIES.match(name)]
        if strange:
            raise Failed("the base image is not known to have %s" % ", ".join(strange))
        return " ".join(needed) or "static"

    def knows_the_flags_and_ports(self):
        """What the image says of the command line is true of the binary."""
        help_text = output([self.built(), "--help"])
        words = [word for line in self.all("ENTRYPOINT") + self.all("CMD") for word in json.loads(line)]
        flags = [word.split("=")[0] for word in words if word.startswith("-")]
        for flag in flags:
            if not re.search(r"(?<!\S)%s(?![\w-])" % re.escape(flag), help_text):
                raise Failed("the image starts epp with %s, which it does not know" % flag)
        ports = " ".join(self.all("EXPOSE")).split()
        for port in ports:
            if not re.search(r"-port\b.*\b%s\b" % port, help_text):
                raise Failed("the image exposes %s, which is no port's default" % port)
        return "%d flags, ports %s" % (len(flags), " ".join(ports))

    def starts_fast(self):
        """The best of some starts: other work on the machine must not count."""
        binary, best = self.built(), PATIENCE
        with tempfile.TemporaryDirectory() as folder:
            endpoints = os.path.join(folder, "endpoints.yaml")
            write(endpoints, ENDPOINTS)
            for _ in range(STARTS):
                took = start_and_stop([binary] + arguments(CONFIG, endpoints))
                best = min(best, took)
                if best < MAX_START:
                    break
        if best >= MAX_START:
            raise Failed("the best of %d starts took %.0f ms, at most %.0f" % (STARTS, best * 1e3, MAX_START * 1e3))
        return "%.0f ms to the line `serving`" % (best * 1e3)

    def runs_read_only_without_rights(self):
        """In a root folder as the image has it: the binary, its libraries, nothing to write to, no right to."""
        binary = self.built()
        if not shutil.which("ldd"):
            raise Skipped("there is no ldd")
        with tempfile.TemporaryDirectory() as root:
            os.chmod(root, 0o755)
            shutil.copy2(binary, root + "/epp")
            for library in re.findall(r"(/\S+) \(0x", output(["ldd", binary])):
                copy([library], root + os.path.dirname(library) + "/")
            write(os.path.join(root, "endpoints.yaml"), ENDPOINTS)
            copy([CONFIG], root + "/")
            sandbox, what = jail(root)
            start_and_stop(sandbox + ["/epp"] + arguments("/default-plugins.yaml", "/endpoints.yaml"))
            return what


def jail(root):
    """Words that run a program in `root` read-only, and what they achieve."""
    # Not everybody's path has `chroot`.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    for tool in ("unshare", "chroot", "setpriv", "mount"):
        if not shutil.which(tool):
            raise Skipped("there is no %s" % tool)
    as_root = os.getuid() == 0
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/written" 2>/dev/null && exec "$@"'
    space = ["unshare", "--mount"] if as_root else ["unshare", "--user", "--map-root-user", "--mount"]
    space += ["sh", "-c", mount, root]
    user = ["--userspec=%s:%s" % (USER, USER)] if as_root else []
    inside = ["setpriv", "--no-new-privs", "chroot"] + user + [root]
    tried = subprocess.run(space + ["true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if tried.returncode == 0:
        return space + inside, "user %s, read-only mount" % (USER if as_root else os.getuid())
    reason = tried.stdout.decode(errors="replace").strip()
    if not as_root:
        raise Skipped("no read-only mount can be made here: %s" % reason)
    # The folder is root's: the user can write nothing in it all the same.
    return inside, "user %s in a folder of root's; SKIPPED the read-only mount: %s" % (USER, reason)


def arguments(config, endpoints):
    ports = [word for name in ("grpc", "grpc-health", "metrics") for word in ("--%s-port" % name, "0")]
    files = ["--config-file", config, "--endpoints-file", endpoints]
    return ["--pool-name", "image", "--zap-encoder", "json"] + files + ports


def start_and_stop(command):
    """Starts `epp`, waits until it serves, ends it by SIGINT; returns how long it took to serve, in seconds."""
    began, took, log = time.monotonic(), None, []
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    leash = threading.Timer(PATIENCE, child.kill)
    leash.start()
    try:
        for line in child.stderr:
            log.append(line.decode(errors="replace"))
            if took is None and b'"msg":"serving"' in line:
                took = time.monotonic() - began
                child.send_signal(2)
        status = child.wait()
    finally:
        leash.cancel()
        child.kill()
    if took is None or status != 0:
        raise Failed("it %s, and ended with status %d:\n%s" % (
            "did not serve" if took is None else "served", status, "".join(log[-10:])))
    return took


def copy(sources, destination):
    """As COPY does: the content of a folder, or files into a folder."""
    for source in sources:
        path = os.path.join(ROOT, source)
        if os.path.isdir(path):
            shutil.copytree(path, destination)
        else:
            folder = destination if destination.endswith("/") else os.path.dirname(destination)
            os.makedirs(folder, exist_ok=True)
            shutil.copy2(path, folder)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def output(command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()


if __name__ == "__main__":
    main()
