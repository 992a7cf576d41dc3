#!/usr/bin/env python3
"""Shows `epp` at work: simulated vLLM servers, the Endpoint Picker, a real Envoy in front, and a short story.

Every claim that the story makes is checked, against the scores that epp recorded and against the servers' own
counters; a claim that does not hold ends the demo with an error. KEEP=1 leaves everything running.
"""

import json
import os
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import clients
from processes import DemoError, Processes, free_ports

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
N_SERVERS = 4
CONVERSATIONS = ["anna", "ben", "carla", "dmitri", "eve", "farid"]
TURNS = 5


def main():
    epp = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "debug", "epp")
    folder = tempfile.mkdtemp(prefix="epp-demo-")
    processes = Processes(folder)

    def leave(number, _frame):
        # Requests under way fail at once when their servers are gone; nothing waits for them.
        processes.stop()
        sys.exit(128 + number)

    for received in (signal.SIGINT, signal.SIGTERM):
        signal.signal(received, leave)
    try:
        if not os.path.exists(epp):
            raise DemoError(f"{epp} is missing: run `make demo`, which builds it")
        stage = Stage(epp, find_envoy(), folder, processes)
        stage.open()
        story = Story(stage)
        story.tell()
        if os.environ.get("KEEP"):
            stage.keep()
        print("\nEverything above was checked. The servers are stopped." if not story.wrong else "")
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    finally:
        processes.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if story.wrong:
        print("demo: what the story claims does not hold:", file=sys.stderr)
        for wrong in story.wrong:
            print(f"  - {wrong}", file=sys.stderr)
        return 1
    return 0


def find_envoy():
    found = subprocess.run(
        [sys.executable, os.path.join(ROOT, "tools", "envoy.py")], stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode != 0:
        raise DemoError("there is no Envoy to show this with")
    return found.stdout.strip()


class Stage:
    """The processes of the demo and where they listen."""

    def __init__(self, epp, envoy, folder, processes):
        self.epp, self.envoy, self.folder, self.processes = epp, envoy, folder, processes
        ports = free_ports(2 * N_SERVERS + 6)
        self.servers = [clients.Server(f"vllm-{n}", ports.pop()) for n in range(N_SERVERS)]
        self.others = [clients.Server(f"other-{n}", ports.pop()) for n in range(N_SERVERS)]
        self.grpc, self.health, self.metrics, self.admin, self.picker, self.round_robin = ports

    def open(self):
        for server in self.servers + self.others:
            self.start_server(server)
        endpoints = os.path.join(self.folder, "endpoints.yaml")
        with open(endpoints, "w") as file:
            file.write("endpoints:\n")
            for server in self.servers:
                file.write(f"- {{name: {server.name}, address: 127.0.0.1, port: {server.port}}}\n")
        config = os.path.join(ROOT, "config", "default-plugins.yaml")
        self.processes.start("epp", [
            self.epp, "--pool-name", "demo", "--config-file", config, "--endpoints-file", endpoints,
            "--drain-timeout", "1s", "--v", "4",
            "--grpc-port", str(self.grpc), "--grpc-health-port", str(self.health), "--metrics-port", str(self.metrics),
        ])
        self.start_envoy()
        self.processes.wait_for("epp to have scraped every server", lambda: self.ready_servers() == N_SERVERS)
        print(f"Envoy listens on 127.0.0.1:{self.picker}, epp's pages are on 127.0.0.1:{self.metrics}; behind them are")
        print(f"{N_SERVERS} simulated vLLM servers: " + ", ".join(f"{s.name} ({s.port})" for s in self.servers) + ".")

    def start_server(self, server):
        self.processes.start(server.name, [
            self.epp, "sim", "serve", "--servers", "1", "--name", server.name, "--listen", server.address,
            "--max-num-seqs", "8", "--num-gpu-blocks", "4096",
        ])
        self.processes.wait_for(f"{server.name} to listen", lambda: clients.get(server.port, "/v1/models"))

    def start_envoy(self):
        with open(os.path.join(ROOT, "demo", "envoy.yaml")) as file:
            template = string.Template(file.read())
        endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
        endpoints = []
        for server in self.others:
            endpoint["address"]["socket_address"]["port_value"] = server.port
            endpoints.append({"endpoint": json.loads(json.dumps(endpoint))})
        path = os.path.join(self.folder, "envoy.yaml")
        with open(path, "w") as file:
            file.write(template.safe_substitute(
                admin_port=self.admin, picker_port=self.picker, round_robin_port=self.round_robin,
                epp_port=self.grpc, round_robin_endpoints=json.dumps(endpoints),
            ))
        self.processes.start("envoy", [
            self.envoy, "-c", path, "--disable-hot-restart", "--concurrency", "1", "-l", "warning",
        ])
        self.processes.wait_for("Envoy to be ready", lambda: clients.get(self.admin, "/ready"))

    def pool_metric(self, name):
        for line in clients.get(self.metrics, "/metrics").splitlines():
            if line.startswith(name + "{"):
                return float(line.rsplit(" ", 1)[1])
        return None

    def ready_servers(self):
        return self.pool_metric("inference_pool_ready_pods")

    def keep(self):
        print("\nKEEP: everything goes on until Ctrl-C. Try:")
        print(f"  curl -si 127.0.0.1:{self.picker}/v1/chat/completions -H 'content-type: application/json' -d "
              "'{\"model\":\"sim-model\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'")
        print(f"  curl -s '127.0.0.1:{self.metrics}/debug/decisions?limit=1'")
        print(f"  curl -s 127.0.0.1:{self.metrics}/metrics | grep inference_")
        print(f"  curl -s {self.servers[0].address}/metrics | grep -v '#' | grep prefix_cache")
        sys.stdout.flush()
        while True:
            signal.pause()


class Story:
    """Sends the traffic, prints what happened, and checks it."""

    def __init__(self, stage):
        self.stage = stage
        self.wrong = []
        self.sent = 0
        self.lock = threading.Lock()
        #: Requests that each server answered, by the header it puts on its answers.
        self.answered = {server.name: 0 for server in stage.servers}

    def tell(self):
        self.conversations()
        self.busy_server()
        self.killed_server()
        self.bad_requests()

    def check(self, holds, claim):
        if not holds:
            self.wrong.append(claim)

    def send(self, messages, max_tokens=24):
        """Sends one request through the picker, and checks that its recorded scores justify where it went."""
        with self.lock:
            self.sent += 1
            request_id = f"demo-{self.sent}"
        answer = clients.chat(self.stage.picker, messages, request_id, max_tokens)
        decision = clients.decision(self.stage.metrics, request_id)
        if answer.status != 200 or decision is None:
            raise DemoError(f"{request_id}: status {answer.status}, decision {decision}: {answer.body}")
        candidates = decision["profiles"][0]["candidates"]
        picked = next(candidate for candidate in candidates if candidate["picked"])
        best = max(candidate["total"] for candidate in candidates)
        with self.lock:
            self.answered[answer.server] += 1
            self.check(picked["total"] >= best - 1e-9, f"{request_id} went to {picked['endpoint']}, which was not best")
            self.check(picked["endpoint"] == answer.server, f"{request_id}: picked {picked['endpoint']}, "
                       f"but {answer.server} answered")
        return answer, decision, picked

    def row(self, what, answer, decision, picked):
        names = [scorer["name"] for scorer in decision["profiles"][0]["scorers"]]
        scores = "  ".join(f"{short(name)} {score:.2f}" for name, score in zip(names, picked["scores"]))
        cached = f"{answer.cached}/{answer.prompt_tokens}"
        print(f"  {what:<22} → {answer.server:<8} {scores}  = {picked['total']:.2f}   {cached:>9} tokens cached")

    def conversations(self):
        heading("Conversations stay with the server that holds their prefix")
        histories = {name: [system_prompt(name)] for name in CONVERSATIONS}
        homes = {name: [] for name in CONVERSATIONS}
        print(f"  {'sent':<22}   {'went to':<8} because of its scores (1 is best)")

        def turn(name, n):
            history = histories[name]
            history.append({"role": "user", "content": question(name, n)})
            result = self.send(history)
            history.append({"role": "assistant", "content": result[0].text})
            return result

        with ThreadPoolExecutor(len(CONVERSATIONS)) as pool:
            for n in range(TURNS):
                results = list(pool.map(lambda name, n=n: turn(name, n), CONVERSATIONS))
                for name, (answer, decision, picked) in zip(CONVERSATIONS, results):
                    homes[name].append(answer.server)
                    self.row(f"{name}, turn {n + 1}", answer, decision, picked)
        for name, servers in homes.items():
            self.check(len(set(servers)) == 1, f"{name}'s conversation moved: {servers}")
        used = len({servers[0] for servers in homes.values()})
        print(f"  {len(CONVERSATIONS)} conversations, {used} servers used, none moved." if not self.wrong else "")
        self.compare_with_round_robin()

    def compare_with_round_robin(self):
        """Sends the same conversations round robin to servers of their own, and compares the servers' counters."""
        histories = {name: [system_prompt(name)] for name in CONVERSATIONS}
        for n in range(TURNS):
            for name in CONVERSATIONS:
                history = histories[name]
                history.append({"role": "user", "content": question(name, n)})
                answer = clients.chat(self.stage.round_robin, history, f"rr-{name}-{n}")
                if answer.status != 200:
                    raise DemoError(f"round robin: {answer.status} {answer.body}")
                history.append({"role": "assistant", "content": answer.text})
        ours, theirs = hit_ratio(self.stage.servers), hit_ratio(self.stage.others)
        print(f"\n  Prompt tokens served from the servers' prefix caches, by the servers' own counters:")
        print(f"    epp          {ours:6.1%}   {bar(ours)}")
        print(f"    round robin  {theirs:6.1%}   {bar(theirs)}")
        self.check(ours > theirs, f"epp's prefix hit ratio {ours:.3f} is not above round robin's {theirs:.3f}")
        for server in self.stage.servers:
            finished = server.counters().get("vllm:request_success_total", 0)
            self.check(finished == self.answered[server.name], f"{server.name} counts {finished} requests, "
                       f"{self.answered[server.name]} answers bear its name")

    def busy_server(self):
        heading("A busy server is avoided")
        busy = self.stage.servers[0]
        # Three times as many long requests as it has seats, past the picker: two thirds of them wait.
        with ThreadPoolExecutor(24) as pool:
            long = [pool.submit(clients.chat, busy.port, [filler(n)], f"busy-{n}", 120) for n in range(24)]
            self.stage.processes.wait_for(
                f"epp to see the queue of {busy.name}",
                lambda: self.queue_of(busy) >= 12,
            )
            waiting = self.queue_of(busy)
            print(f"  {busy.name} got 24 long requests behind epp's back; epp sees {waiting:.0f} of them waiting.")
            results = [self.send([filler(100 + n)], max_tokens=4) for n in range(6)]
            for n, (answer, decision, picked) in enumerate(results):
                self.row(f"new question {n + 1}", answer, decision, picked)
            went = [answer.server for answer, _, _ in results]
            self.check(busy.name not in went, f"new questions went to the busy {busy.name}: {went}")
            for request in long:
                request.result()

    def queue_of(self, server):
        for line in clients.get(self.stage.metrics, "/metrics").splitlines():
            if line.startswith("inference_pool_per_pod_queue_size{") and f'"{server.name}"' in line:
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def killed_server(self):
        heading("A killed server is left out, and comes back")
        killed = self.stage.servers[1]
        self.stage.processes.kill(killed.name)
        self.stage.processes.wait_for("epp to leave it out", lambda: self.stage.ready_servers() == N_SERVERS - 1)
        went = [self.send([filler(200 + n)], max_tokens=2)[0].server for n in range(12)]
        print(f"  {killed.name} is killed; 12 questions went to {tally(went)}; none failed.")
        self.check(killed.name not in went, f"questions went to the killed {killed.name}")
        self.stage.start_server(killed)
        self.stage.processes.wait_for("epp to take it back", lambda: self.stage.ready_servers() == N_SERVERS)
        went = []
        while killed.name not in went and len(went) < 200:
            went.append(self.send([filler(300 + len(went))], max_tokens=2)[0].server)
        print(f"  {killed.name} is started again; of {len(went)} new questions it got the last one.")
        self.check(killed.name in went, f"{killed.name} came back, but got none of {len(went)} questions")

    def bad_requests(self):
        heading("A bad request is refused before it costs a server anything")
        before = sum(server.counters().get("vllm:request_success_total", 0) for server in self.stage.servers)
        for what, body in [
            ("not JSON", b"hello"),
            ("no model", b'{"messages":[{"role":"user","content":"hi"}]}'),
            ("no prompt", b'{"model":"sim-model"}'),
        ]:
            answer = clients.post(self.stage.picker, body, "bad")
            print(f"  {what:<22} → {answer.status} {answer.body}")
            self.check(answer.status == 400 and answer.server is None, f"{what}: {answer.status} from {answer.server}")
        after = sum(server.counters().get("vllm:request_success_total", 0) for server in self.stage.servers)
        self.check(before == after, "a refused request reached a server")


def heading(text):
    print(f"\n{text}\n{'-' * len(text)}")
    sys.stdout.flush()


def short(name):
    return {"queue-scorer": "queue", "kv-cache-utilization-scorer": "kv", "prefix-cache-scorer": "prefix"}.get(name, name)


def bar(ratio):
    return "█" * round(40 * ratio)


def tally(names):
    return ", ".join(f"{name} ({names.count(name)})" for name in sorted(set(names)))


def hit_ratio(servers):
    counters = [server.counters() for server in servers]
    hits = sum(values["vllm:prefix_cache_hits_total"] for values in counters)
    return hits / sum(values["vllm:prefix_cache_queries_total"] for values in counters)


def system_prompt(name):
    rules = " ".join(f"Rule {n} of {name}: answer {name}'s question number {n} in {n + 3} words." for n in range(40))
    return {"role": "system", "content": f"You are the assistant of {name}. {rules}"}


def question(name, n):
    return f"Question {n + 1} from {name}: what follows from rule {7 * n % 40}, and why?"


def filler(n):
    return {"role": "user", "content": " ".join(f"{n}-{word}" for word in range(60))}


if __name__ == "__main__":
    sys.exit(main())
