#!/usr/bin/env python3
"""Shows `epp` at work: simulated vLLM servers, the Endpoint Picker, a real Envoy in front, and a short story.

Every claim that the story makes is checked, against the scores that epp recorded and against the servers' own
counters; a claim that does not hold ends the demo with an error. KEEP=1 leaves everything running.
"""

import os
import sys

import clients
from stage import Stage, run
from story import Story

N_SERVERS = 4
PEOPLE = ["anna", "ben", "carla", "dmitri", "eve", "farid"]


class Simulated(Stage):
    """Simulated vLLM servers, which are `epp` too."""

    kind = "simulated vLLM servers"

    def start_servers(self):
        for server in self.servers + self.others:
            self.start_server(server)

    def start_server(self, server):
        self.processes.start(server.name, [
            self.epp, "sim", "serve", "--servers", "1", "--name", server.name, "--listen", server.address,
            "--max-num-seqs", "8", "--num-gpu-blocks", "4096",
        ])
        self.processes.wait_for(f"{server.name} to listen", lambda: clients.get(server.port, "/v1/models"))


def tell(processes):
    stage = Simulated(processes, clients.Chat("sim-model", {}), N_SERVERS, N_SERVERS)
    stage.open()
    story = Story(stage, PEOPLE, long_tokens=120)
    story.conversations()
    story.busy_server()
    story.killed_server()
    story.bad_requests()
    if os.environ.get("KEEP"):
        stage.keep()
    print("\nEverything above was checked. The servers are stopped." if not story.wrong else "")
    return story.wrong


if __name__ == "__main__":
    sys.exit(run(tell))
