"""Installs Python packages from PyPI for the checks that need one, into `target/tools`, once each."""

import os
import shutil
import subprocess
import sys
import tempfile

import go_tools
from checks import Skipped


def install(requirement):
    """The folder in which a package, given as `name==version`, lies with what it needs; skips if pip cannot install it."""
    # Compiled packages fit one version of Python.
    name = "%s-py%d.%d" % ((requirement.replace("==", "-"),) + sys.version_info[:2])
    folder = os.path.join(go_tools.TARGET, "tools", "python", name)
    if not os.path.exists(folder):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        # Only what is whole gets the name.
        unfinished = tempfile.mkdtemp(prefix=".unfinished-", dir=os.path.dirname(folder))
        try:
            run_pip(requirement, unfinished)
            os.chmod(unfinished, 0o755)
            os.rename(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def run_pip(requirement, folder):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
    child = subprocess.run(pip + ["--target", folder, requirement], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if child.returncode != 0:
        said = child.stdout.decode(errors="replace").strip().splitlines()
        raise Skipped("there is no %s, and pip cannot install it: %s" % (requirement, said[-1] if said else "no word"))
