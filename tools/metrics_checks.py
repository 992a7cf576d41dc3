#!/usr/bin/env python3
"""Checks the metrics page of a running `epp` with promtool; `make test-extra` runs it.

The page is that of the demo's stage after some requests through Envoy. promtool comes from the PATH, or is built with Go;
without either it is skipped, and said so.
"""

import os
import subprocess
import sys
import tempfile

import go_tools
from checks import Failed, Skipped, run

sys.path.append(os.path.join(go_tools.ROOT, "demo"))
import clients
from demo import Simulated
from processes import DemoError, Processes


def main():
    page = Page()
    sys.exit(run("metrics", [
        ("promtool is there", page.find_promtool),
        ("promtool sees what is wrong", page.promtool_complains),
        ("the page is as promtool wants it", page.is_well_formed),
    ]))


class Page:
    def __init__(self):
        self.promtool = None

    def find_promtool(self):
        self.promtool = go_tools.find(go_tools.PROMTOOL)
        return self.promtool

    def check(self, page):
        """The lines in which promtool says what of a page is wrong or against its rules."""
        if self.promtool is None:
            raise Skipped("there is no promtool")
        child = subprocess.run([self.promtool, "check", "metrics"], input=page.encode(), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
        said = child.stdout.decode(errors="replace").splitlines()
        if bool(said) != bool(child.returncode):
            raise Failed("promtool ended with %d and said %s" % (child.returncode, said))
        return said

    def promtool_complains(self):
        for page in ("# TYPE x counter\nx 1\n", "no page\n"):
            if not self.check(page):
                raise Failed("%r is no page for Prometheus, and promtool says nothing" % page)
        return "2 pages"

    def is_well_formed(self):
        self.check("")
        if subprocess.run(["cargo", "build", "--quiet", "--bin", "epp"], cwd=go_tools.ROOT).returncode != 0:
            raise Failed("epp does not build")
        with tempfile.TemporaryDirectory() as folder:
            processes = Processes(folder)
            try:
                page = page_after_requests(processes)
            except DemoError as error:
                raise Failed(error)
            finally:
                processes.stop()
        said = self.check(page)
        if said:
            raise Failed("; ".join(said))
        families = sum(line.startswith("# TYPE ") for line in page.splitlines())
        if families < 25:
            raise Failed("only %d families" % families)
        return "%d families" % families


def page_after_requests(processes):
    """The metrics page after an answer, a stream and a refusal."""
    stage = Simulated(processes, clients.Chat("sim-model", {}), 2, 1)
    stage.open()
    messages = [{"role": "user", "content": "hello " * 50}]
    answers = [stage.chat.send(stage.picker, messages, "check-%d" % n).status for n in range(3)]
    answers.append(stage.chat.stream(stage.picker, messages, "check-stream", 8)[0])
    answers.append(clients.post(stage.picker, b"{", "check-refused").status)
    if answers != [200, 200, 200, 200, 400]:
        raise Failed("the requests were answered with %s" % answers)
    return clients.get(stage.metrics, "/metrics")


if __name__ == "__main__":
    main()
