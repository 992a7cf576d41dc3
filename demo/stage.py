"""What the demos show: model servers, `epp` before some of them, Envoy before all; and how a demo runs."""

import json
import os
import shutil
import signal
import string
import subprocess
import sys
import tempfile

import clients
from processes import DemoError, Processes, free_ports

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(tell):
    """Runs `tell(processes)`, which returns the claims that did not hold; ends every child, whatever happens."""
    folder = tempfile.mkdtemp(prefix="epp-demo-")
    processes = Processes(folder)

    def leave(number, _frame):
        # Requests under way fail at once when their servers are gone; nothing waits for them.
        processes.stop()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            sys.stdout.flush()
        except RuntimeError:
            # The signal came in the middle of a print.
            pass
        os._exit(128 + number)

    for received in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(received, leave)
    try:
        wrong = tell(processes)
    except DemoError as error:
        sys.stdout.flush()
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    finally:
        processes.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if wrong:
        sys.stdout.flush()
        print("demo: what the story claims does not hold:", file=sys.stderr)
        for claim in wrong:
            print(f"  - {claim}", file=sys.stderr)
        return 1
    return 0


def find_epp():
    epp = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "debug", "epp")
    if not os.path.exists(epp):
        raise DemoError(f"{epp} is missing: `make` builds it before it starts a demo")
    return epp


def find_envoy():
    found = subprocess.run(
        [sys.executable, os.path.join(ROOT, "tools", "envoy.py")], stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode != 0:
        raise DemoError("there is no Envoy to show this with")
    return found.stdout.strip()


class Stage:
    """The processes of a demo and where they listen. A demo says how its model servers start."""

    #: What the servers are called in what is printed.
    kind = "model servers"

    def __init__(self, processes, chat, n_servers, n_others):
        self.processes, self.chat = processes, chat
        self.epp, self.envoy = find_epp(), find_envoy()
        ports = free_ports(n_servers + n_others + 6)
        self.servers = [clients.Server(f"vllm-{n}", ports.pop()) for n in range(n_servers)]
        #: Servers that Envoy reaches round robin, without a picker; those of the picker if it gets none of its own.
        self.others = [clients.Server(f"other-{n}", ports.pop()) for n in range(n_others)] or self.servers
        self.grpc, self.health, self.metrics, self.admin, self.picker, self.round_robin = ports

    def start_servers(self):
        """Starts all servers and waits until they listen."""
        raise NotImplementedError

    def start_server(self, server):
        """Starts one of them and waits until it listens."""
        raise NotImplementedError

    def open(self):
        self.start_servers()
        self.start_epp()
        self.start_envoy()
        n_servers = len(self.servers)
        self.processes.wait_for("epp to have scraped every server", lambda: self.ready_servers() == n_servers)
        print(f"Envoy listens on 127.0.0.1:{self.picker}, epp's pages are on 127.0.0.1:{self.metrics}; behind them are")
        print(f"{n_servers} {self.kind}: " + ", ".join(f"{s.name} ({s.port})" for s in self.servers) + ".")

    def start_epp(self):
        endpoints = os.path.join(self.processes.folder, "endpoints.yaml")
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

    def start_envoy(self):
        with open(os.path.join(ROOT, "demo", "envoy.yaml")) as file:
            template = string.Template(file.read())
        endpoints = [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": server.port}}}}
            for server in self.others
        ]
        path = os.path.join(self.processes.folder, "envoy.yaml")
        with open(path, "w") as file:
            file.write(template.safe_substitute(
                admin_port=self.admin, picker_port=self.picker, round_robin_port=self.round_robin,
                epp_port=self.grpc, round_robin_endpoints=json.dumps(endpoints),
            ))
        self.processes.start("envoy", [
            self.envoy, "-c", path, "--disable-hot-restart", "--concurrency", "1", "-l", "warning",
        ])
        self.processes.wait_for("Envoy to be ready", lambda: clients.get(self.admin, "/ready"))

    def name_of(self, answer):
        """Name of the server that Envoy had the answer from."""
        return next((server.name for server in self.servers if server.address == answer.upstream), None)

    def pool_metric(self, name):
        return clients.metrics(clients.get(self.metrics, "/metrics")).get(name)

    def ready_servers(self):
        return self.pool_metric("inference_pool_ready_pods")

    def queue_of(self, server):
        """How many requests wait at a server, as epp sees it."""
        for line in clients.get(self.metrics, "/metrics").splitlines():
            if line.startswith("inference_pool_per_pod_queue_size{") and f'"{server.name}"' in line:
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def keep(self):
        request = json.dumps(dict(self.chat.fields, messages=[{"role": "user", "content": "hello"}], max_tokens=24))
        print("\nKEEP: everything goes on until Ctrl-C. Try:")
        print(f"  curl -si 127.0.0.1:{self.picker}/v1/chat/completions -H 'content-type: application/json' -d "
              f"'{request}'")
        print(f"  curl -s '127.0.0.1:{self.metrics}/debug/decisions?limit=1'")
        print(f"  curl -s 127.0.0.1:{self.metrics}/metrics | grep inference_")
        print(f"  curl -s {self.servers[0].address}/metrics | grep -v '#' | grep prefix_cache")
        sys.stdout.flush()
        while True:
            signal.pause()
