#!/usr/bin/env python3
"""The demo's story on real vLLM: two servers for CPUs with a tiny random model, `epp`, and a real Envoy.

`--install` only installs vLLM, which takes gigabytes; without it, it is installed first if it is not there. What the
story claims is checked against vLLM's own counters. KEEP=1 leaves everything running.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import clients
import vllm_install
import vllm_model
from stage import Stage, run
from story import RUNNING, WAITING, Story, filler, heading, tally

N_SERVERS = 2
#: An odd number, so that round robin does not send each to the same of two servers every time.
PEOPLE = ["anna", "ben", "carla", "dmitri", "eve", "farid", "gina"]
MODEL = "tiny"
SEATS = 4
BLOCK_SIZE = 32
#: Room for five of the seven conversations: a server that saw all of them would have to forget some.
N_BLOCKS = 560
START_SECONDS = 600


class RealVllm(Stage):
    """vLLM servers."""

    kind = f"vLLM {vllm_install.VLLM} servers"

    def __init__(self, processes):
        # Random weights end an answer at random; the length of answers should not depend on that.
        super().__init__(processes, clients.Chat(MODEL, {"ignore_eos": True}), N_SERVERS, 0)
        self.model = os.path.join(vllm_install.FOLDER, MODEL)
        vllm_model.write(self.model)

    def start_servers(self):
        print(f"Starting {N_SERVERS} vLLM servers; that takes a minute or two.", flush=True)
        began = time.monotonic()
        for server in self.servers:
            self.start_process(server)
        for server in self.servers:
            self.wait_for_server(server)
        print(f"They answer after {time.monotonic() - began:.0f} s.")

    def start_server(self, server):
        self.start_process(server)
        self.wait_for_server(server)

    def start_process(self, server):
        folder = vllm_install.FOLDER
        env = dict(
            os.environ, HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_CPU_KVCACHE_SPACE="1",
            VLLM_CACHE_ROOT=os.path.join(folder, "run"), HF_HOME=os.path.join(folder, "run", "hf"),
            OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind",
        )
        for name in ("PYTHONPATH", "PYTHONHOME", "VLLM_API_KEY"):
            env.pop(name, None)
        self.processes.start(server.name, [
            os.path.join(vllm_install.VENV, "bin", "python"), "-m", "vllm.entrypoints.cli.main", "serve", self.model,
            "--load-format", "dummy", "--dtype", "float32", "--enforce-eager",
            "--host", "127.0.0.1", "--port", str(server.port), "--served-model-name", MODEL,
            "--max-model-len", str(vllm_model.MAX_TOKENS // 2), "--max-num-seqs", str(SEATS),
            "--block-size", str(BLOCK_SIZE), "--num-gpu-blocks-override", str(N_BLOCKS),
            "--enable-prompt-tokens-details",
        ], env)

    def wait_for_server(self, server):
        listens = lambda: clients.get(server.port, "/v1/models")
        self.processes.wait_for(f"{server.name} to listen", listens, START_SECONDS)


class RealStory(Story):
    """The story, with what only a real server can show."""

    def on_decisions_beside(self, busy, decisions):
        """epp's view of the busy server: all seats taken, and a queue."""
        views = []
        for decision in decisions:
            candidates = decision["profiles"][0]["candidates"]
            views += [(c["running"], c["waiting"]) for c in candidates if c["endpoint"] == busy.name]
        running, waiting = max(views, default=(0, 0))
        print(f"  In those decisions {busy.name} had {running} running and {waiting} waiting; it has {SEATS} seats.")
        self.check(running == SEATS and waiting > 0, f"epp saw {views} of {busy.name}, not {SEATS} running and a queue")

    def burst(self):
        heading("A burst is spread, and nothing of it fails")
        servers, n_requests = self.stage.servers, 12 * N_SERVERS
        with ThreadPoolExecutor(n_requests) as pool:
            requests = [pool.submit(self.send, [filler(400 + n)], self.long_tokens) for n in range(n_requests)]
            views = {}

            def agree():
                before = [server.counters() for server in servers]
                views.update((server.name, self.stage.queue_of(server)) for server in servers)
                after = [server.counters() for server in servers]
                return all(
                    old[RUNNING] == new[RUNNING] == SEATS and old[WAITING] == new[WAITING] == views[server.name] > 0
                    for server, old, new in zip(servers, before, after)
                )

            self.stage.processes.wait_for("epp and both servers to tell the same queues", agree, 60)
            queues = ", ".join(f"{views[server.name]:.0f} wait at {server.name}" for server in servers)
            print(f"  {n_requests} long requests at once: each server runs {SEATS}; {queues}: epp and the servers agree.")
            went = [request.result()[2]["endpoint"] for request in requests]
        print(f"  All were answered: {tally(went)}.")
        for server in servers:
            self.check(went.count(server.name) >= n_requests // 4, f"the burst went to {tally(went)}")

    def stream(self):
        heading("A streamed answer arrives piece by piece, and epp reads its usage")
        names = ["inference_model_input_tokens_sum", "inference_model_output_tokens_sum"]
        before = [self.stage.pool_metric(name) or 0 for name in names]
        # Long enough that it cannot wait somewhere as a whole, and be passed on in one go, on a busy machine either.
        n_tokens = 1000
        status, pieces = self.stage.chat.stream(self.stage.picker, [filler(500)], "demo-stream", n_tokens)
        lines = [line for line in b"".join(pieces).decode().split("\n") if line]
        chunks = [json.loads(line[len("data: "):]) for line in lines if line.startswith("data: {")]
        usage = next((chunk["usage"] for chunk in chunks if chunk.get("usage")), None)
        print(f"  {len(chunks)} events came in {len(pieces)} pieces; its usage is {usage}.")
        self.check(status == 200 and lines[-1] == "data: [DONE]", f"the stream ended with {lines[-1:]}")
        self.check(len(pieces) >= 10, f"the stream came in {len(pieces)} pieces")
        self.check(bool(usage) and usage["completion_tokens"] == n_tokens, f"the stream's usage is {usage}")
        if usage:
            want = [usage["prompt_tokens"], usage["completion_tokens"]]

            def counted():
                return [self.stage.pool_metric(name) - old for name, old in zip(names, before)] == want

            self.stage.processes.wait_for(f"epp to count {want} tokens", counted)
            print(f"  epp counts the same tokens: {want[0]} in, {want[1]} out.")

    def unknown_model(self):
        heading("What a server refuses reaches the client as it is")
        body = json.dumps({"model": "nope", "messages": [{"role": "user", "content": "hello"}]}).encode()
        through, direct = (clients.post(port, body, "unknown") for port in (self.stage.picker, self.stage.servers[0].port))
        print(f"  an unknown model       → {through.status} {through.body}")
        self.check(through.status == direct.status == 404, f"statuses {through.status} and {direct.status}, not 404")
        self.check(through.body == direct.body, f"{through.body} is not {direct.body}")
        self.check(self.stage.name_of(through) is not None, "the 404 came from no server")

    def scrapes(self):
        heading("epp asks the servers for no more than it reads")
        for server in self.stage.servers:
            log = self.stage.processes.log(server.name)
            few, all_of_it = log.count('"GET /metrics/?name'), log.count('"GET /metrics HTTP')
            print(f"  {server.name}: {few} scrapes of six families, {all_of_it} of the whole page "
                  "(this demo's own looks at it included).")
            self.check(few > all_of_it, f"{server.name}: {few} filtered scrapes, {all_of_it} whole ones")


def tell(processes):
    vllm_install.install(processes)
    if sys.argv[1:] == ["--install"]:
        return []
    stage = RealVllm(processes)
    stage.open()
    story = RealStory(stage, PEOPLE, long_tokens=400)
    story.conversations()
    story.burst()
    story.busy_server()
    story.stream()
    story.unknown_model()
    story.bad_requests()
    story.scrapes()
    story.killed_server()
    if os.environ.get("KEEP"):
        stage.keep()
    print("\nEverything above was checked. The servers are stopped." if not story.wrong else "")
    return story.wrong


if __name__ == "__main__":
    sys.exit(run(tell))
