#!/usr/bin/env python3
"""Shows `epp standalone`: the manifests of Envoy AI Gateway's guide to InferencePool, served on this machine.

Two pools of simulated model servers and a plain backend behind a real Envoy; then an edit, and a budget of tokens. Every
claim is checked; one that does not hold ends the demo with an error.
"""

import json
import os
import shutil
import sys
import urllib.error
import urllib.request

from processes import free_ports
from stage import ROOT, find_envoy, find_epp, run

GUIDE = os.path.join(ROOT, "config", "manifests", "aigatewayroute")
ROUTE = "gateway-and-route.yaml"
LLAMA, MISTRAL, PLAIN = "meta-llama/Llama-3.1-8B-Instruct", "mistral:latest", "some-cool-self-hosted-model"

BUDGET = """
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: tokens}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: inference-pool-with-aigwroute}]
  rateLimit:
    type: Global
    global:
      rules:
      - clientSelectors: [{headers: [{name: x-tenant-id, type: Distinct}]}]
        limit: {requests: 60, unit: Year}
        cost:
          request: {from: Number, number: 0}
          response: {from: Metadata, metadata: {namespace: io.envoy.ai_gateway, key: llm_total_token}}
"""


class Guide:
    def __init__(self, processes):
        self.processes = processes
        self.wrong = []
        self.port, self.metrics = free_ports(2)
        self.manifests = os.path.join(processes.folder, "guide")
        self.run_dir = os.path.join(processes.folder, "run")
        shutil.copytree(GUIDE, self.manifests)

    def check(self, holds, claim):
        if not holds:
            self.wrong.append(claim)

    def start(self):
        self.processes.start("standalone", [
            find_epp(), "standalone", "-f", self.manifests, "--simulate", "--envoy", find_envoy(), "--run-dir", self.run_dir,
            "--port-map", f"80={self.port}", "--metrics-port", str(self.metrics), "--drain-timeout", "1s",
        ])
        self.processes.wait_for("Envoy to serve", lambda: self.report()["is_ready"])

    def report(self):
        with open(os.path.join(self.run_dir, "status.json"), encoding="utf-8") as file:
            return json.load(file)

    def ask(self, model, tenant=None):
        """Status, server, and tokens that the answer reports."""
        body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hi. Say this is a test"}]}
        headers = {"Content-Type": "application/json", **({"x-tenant-id": tenant} if tenant else {})}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                tokens = json.load(answer)["usage"]["total_tokens"]
                return answer.status, answer.headers["x-sim-server"], tokens
        except urllib.error.HTTPError as error:
            return error.code, None, 0

    def edit(self, change):
        path = os.path.join(self.manifests, ROUTE)
        with open(path, encoding="utf-8") as file:
            text = change(file.read())
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)

    def requests(self):
        heading("The guide's requests")
        for model, server in [(LLAMA, "vllm-llama3-8b-instruct-"), (MISTRAL, "mistral-upstream-"),
                              (PLAIN, "envoy-ai-gateway-basic-testupstream-"), ("gpt-17", None)]:
            status, by, _ = self.ask(model)
            print(f"  {model:34} {status}  {by or '-'}")
            held = status == 200 and by.startswith(server) if server else status == 404
            self.check(held, f"{model} is served by {server}…, or else 404: {status} by {by}")

    def changed(self):
        heading("An edit of the route, while it runs: the third model gets another name")
        self.edit(lambda text: text.replace(PLAIN, "cool-model"))
        self.processes.wait_for("the edit to take effect", lambda: self.ask("cool-model")[0] == 200)
        for model, want in [("cool-model", 200), (PLAIN, 404), (MISTRAL, 200)]:
            status, by, _ = self.ask(model)
            print(f"  {model:34} {status}  {by or '-'}")
            self.check(status == want, f"{model} is answered with {want}, not {status}")

    def budget(self):
        heading("A budget of 60 tokens for each tenant, by a BackendTrafficPolicy and the route's llmRequestCosts")
        costs = "  llmRequestCosts:\n  - {metadataKey: llm_total_token, type: TotalToken}\n  rules:\n"
        self.edit(lambda text: text.replace("  rules:\n", costs, 1) + BUDGET)
        self.processes.wait_for("the budget to count", lambda: self.ask(MISTRAL, "probe")[0] == 429)
        spent, refused = 0, None
        for n in range(1, 30):
            status, _, tokens = self.ask(MISTRAL, "anna")
            print(f"  anna, request {n}: {status}" + (f", {tokens} tokens" if tokens else ""))
            if status == 429:
                refused = spent
                break
            spent += tokens
        self.check(refused is not None and refused >= 60, f"anna is refused once 60 tokens are spent: {refused}")
        status, _, _ = self.ask(MISTRAL, "ben")
        print(f"  ben,  request 1: {status}")
        self.check(status == 200, "ben has a budget of his own")


def heading(text):
    print(f"\n{text}\n")


def tell(processes):
    guide = Guide(processes)
    print(f"epp standalone -f {os.path.relpath(GUIDE, ROOT)} --simulate")
    guide.start()
    report = guide.report()
    for listener in report["listeners"]:
        print(f"  Gateway {listener['gateway']}, listener {listener['name']}: {listener['address']}")
    for pool in report["pools"]:
        print(f"  InferencePool {pool['name']}: {len(pool['endpoints'])} simulated servers")
    guide.requests()
    guide.changed()
    guide.budget()
    print("\nEverything above was checked. The servers are stopped." if not guide.wrong else "")
    return guide.wrong


if __name__ == "__main__":
    sys.exit(run(tell))
