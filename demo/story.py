"""The story that the demos tell: it sends the traffic, prints what happened, and checks it."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import clients
from processes import DemoError

TURNS = 5
HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
SUCCESSES = "vllm:request_success_total"
WAITING, RUNNING = "vllm:num_requests_waiting", "vllm:num_requests_running"


class Story:
    """The chapters, over a stage."""

    def __init__(self, stage, people, long_tokens):
        """Tells of conversations of `people`, and of long answers of `long_tokens` tokens."""
        self.stage, self.people, self.long_tokens = stage, people, long_tokens
        self.wrong = []
        self.sent = 0
        self.lock = threading.Lock()

    def check(self, holds, claim):
        if not holds:
            self.wrong.append(claim)

    def send(self, messages, max_tokens=24):
        """Sends one request through the picker, and checks that its recorded scores justify where it went."""
        with self.lock:
            self.sent += 1
            request_id = f"demo-{self.sent}"
        answer = self.stage.chat.send(self.stage.picker, messages, request_id, max_tokens)
        decision = clients.decision(self.stage.metrics, request_id)
        if answer.status != 200 or decision is None:
            raise DemoError(f"{request_id}: status {answer.status}, decision {decision}: {answer.body}")
        candidates = decision["profiles"][0]["candidates"]
        picked = next(candidate for candidate in candidates if candidate["picked"])
        best = max(candidate["total"] for candidate in candidates)
        server = self.stage.name_of(answer)
        with self.lock:
            self.check(picked["total"] >= best - 1e-9, f"{request_id} went to {picked['endpoint']}, which was not best")
            self.check(picked["endpoint"] == server, f"{request_id}: picked {picked['endpoint']}, "
                       f"but {server} answered")
        return answer, decision, picked

    def row(self, what, answer, decision, picked):
        names = [scorer["name"] for scorer in decision["profiles"][0]["scorers"]]
        scores = "  ".join(f"{short(name)} {score:.2f}" for name, score in zip(names, picked["scores"]))
        cached = f"{answer.cached}/{answer.prompt_tokens}"
        print(f"  {what:<22} → {picked['endpoint']:<8} {scores}  = {picked['total']:.2f}   {cached:>9} tokens cached")

    def conversations(self):
        heading("Conversations stay with the server that holds their prefix")
        before = [server.counters() for server in self.stage.servers]
        histories = {name: [system_prompt(name, "A")] for name in self.people}
        homes = {name: [] for name in self.people}
        print(f"  {'sent':<22}   {'went to':<8} because of its scores (1 is best)")

        def turn(name, n):
            history = histories[name]
            history.append({"role": "user", "content": question(name, n)})
            result = self.send(history)
            history.append({"role": "assistant", "content": result[0].text})
            return result

        with ThreadPoolExecutor(len(self.people)) as pool:
            for n in range(TURNS):
                results = list(pool.map(lambda name, n=n: turn(name, n), self.people))
                for name, (answer, decision, picked) in zip(self.people, results):
                    homes[name].append(picked["endpoint"])
                    self.row(f"{name}, turn {n + 1}", answer, decision, picked)
        for name, servers in homes.items():
            self.check(len(set(servers)) == 1, f"{name}'s conversation moved: {servers}")
        used = len({servers[0] for servers in homes.values()})
        print(f"  {len(self.people)} conversations, {used} servers used, none moved." if not self.wrong else "")
        self.check_successes(before, [server for servers in homes.values() for server in servers])
        self.compare_with_round_robin(self.hit_ratio(self.stage.servers, before))

    def check_successes(self, before, went):
        """Compares where requests went with what each server counts since `before`."""
        for server, counters in zip(self.stage.servers, before):
            want = went.count(server.name)

            def counted(server=server, counters=counters):
                return server.counters().get(SUCCESSES, 0) - counters.get(SUCCESSES, 0)

            try:
                # A server may count an answer a moment after its end.
                self.stage.processes.wait_for("", lambda counted=counted, want=want: counted() == want)
            except DemoError:
                self.check(False, f"{server.name} counts {counted():.0f} requests, {want} were sent there")

    def compare_with_round_robin(self, ours):
        """Sends the same conversations round robin, with other first words, and compares the servers' counters."""
        before = [server.counters() for server in self.stage.others]
        histories = {name: [system_prompt(name, "B")] for name in self.people}
        for n in range(TURNS):
            for name in self.people:
                history = histories[name]
                history.append({"role": "user", "content": question(name, n)})
                answer = self.stage.chat.send(self.stage.round_robin, history, f"rr-{name}-{n}")
                if answer.status != 200:
                    raise DemoError(f"round robin: {answer.status} {answer.body}")
                history.append({"role": "assistant", "content": answer.text})
        theirs = self.hit_ratio(self.stage.others, before)
        print("\n  Prompt tokens served from the servers' prefix caches, by the servers' own counters:")
        print(f"    epp          {ours:6.1%}   {bar(ours)}")
        print(f"    round robin  {theirs:6.1%}   {bar(theirs)}")
        self.check(ours > theirs, f"epp's prefix hit ratio {ours:.3f} is not above round robin's {theirs:.3f}")

    def hit_ratio(self, servers, before):
        """Share of prompt tokens that the servers had cached since `before`."""
        after = [server.counters() for server in servers]
        hits, queries = (sum(new[name] - old[name] for new, old in zip(after, before)) for name in (HITS, QUERIES))
        return hits / queries

    def busy_server(self):
        heading("A busy server is avoided")
        busy = self.stage.servers[0]
        # Several times as many long requests as it has seats, past the picker: the others wait.
        with ThreadPoolExecutor(24) as pool:
            long = [
                pool.submit(self.stage.chat.send, busy.port, [filler(n)], f"busy-{n}", self.long_tokens)
                for n in range(24)
            ]
            seen = self.wait_for_agreement(busy)
            print(f"  {busy.name} got 24 long requests behind epp's back; epp sees {seen:.0f} of them waiting, "
                  "and so says the server.")
            results = [self.send([filler(100 + n)], max_tokens=4) for n in range(6)]
            for n, (answer, decision, picked) in enumerate(results):
                self.row(f"new question {n + 1}", answer, decision, picked)
            went = [picked["endpoint"] for _, _, picked in results]
            self.check(busy.name not in went, f"new questions went to the busy {busy.name}: {went}")
            self.on_decisions_beside(busy, [decision for _, decision, _ in results])
            failed = [answer.body for answer in (request.result() for request in long) if answer.status != 200]
            self.check(not failed, f"long requests failed: {failed[:1]}")

    def on_decisions_beside(self, busy, decisions):
        """Takes the decisions that were made while `busy` was."""

    def wait_for_agreement(self, server):
        """Waits until epp and a server tell the same long queue; returns its length."""
        seen = 0

        def agree():
            nonlocal seen
            before = server.counters()[WAITING]
            seen = self.stage.queue_of(server)
            return seen >= 12 and before == seen == server.counters()[WAITING]

        self.stage.processes.wait_for(f"epp and {server.name} to tell the same queue", agree, 60)
        return seen

    def killed_server(self):
        heading("A killed server is left out, and comes back")
        killed, n_servers = self.stage.servers[1], len(self.stage.servers)
        self.stage.processes.kill(killed.name)
        self.stage.processes.wait_for("epp to leave it out", lambda: self.stage.ready_servers() == n_servers - 1)
        went = [self.send([filler(200 + n)], max_tokens=2)[2]["endpoint"] for n in range(12)]
        print(f"  {killed.name} is killed; 12 questions went to {tally(went)}; none failed.")
        self.check(killed.name not in went, f"questions went to the killed {killed.name}")
        self.stage.start_server(killed)
        self.stage.processes.wait_for("epp to take it back", lambda: self.stage.ready_servers() == n_servers)
        went = []
        while killed.name not in went and len(went) < 200:
            went.append(self.send([filler(300 + len(went))], max_tokens=2)[2]["endpoint"])
        print(f"  {killed.name} is started again; of {len(went)} new questions it got the last one.")
        self.check(killed.name in went, f"{killed.name} came back, but got none of {len(went)} questions")

    def bad_requests(self):
        heading("A bad request is refused before it costs a server anything")
        before = sum(server.counters().get(SUCCESSES, 0) for server in self.stage.servers)
        model = self.stage.chat.fields["model"]
        for what, body in [
            ("not JSON", "hello"),
            ("no model", '{"messages":[{"role":"user","content":"hi"}]}'),
            ("no prompt", f'{{"model":"{model}"}}'),
        ]:
            answer = clients.post(self.stage.picker, body.encode(), "bad")
            print(f"  {what:<22} → {answer.status} {answer.body}")
            server = self.stage.name_of(answer)
            self.check(answer.status == 400 and server is None, f"{what}: {answer.status} from {server}")
        after = sum(server.counters().get(SUCCESSES, 0) for server in self.stage.servers)
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


def system_prompt(name, phase):
    # The phase comes first, so that two phases share no prefix.
    rules = " ".join(f"Rule {n} of {name}: answer {name}'s question number {n} in {n + 3} words." for n in range(40))
    return {"role": "system", "content": f"{phase}: You are the assistant of {name}. {rules}"}


def question(name, n):
    return f"Question {n + 1} from {name}: what follows from rule {7 * n % 40}, and why?"


def filler(n):
    return {"role": "user", "content": " ".join(f"{n}-{word}" for word in range(60))}
