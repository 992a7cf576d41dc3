#!/usr/bin/env python3
"""Checks `epp` with OpenAI's own Python client; `make test-extra` runs it.

The client talks to Envoy, with `epp` at its side and simulated servers behind it: the demo's stage. Each answer must be
what a server says when it is asked without them, must carry a server's name, and must be counted on `epp`'s page with
its tokens. The client is installed from PyPI; where that cannot be, all is skipped, and said so.
"""

import json
import os
import subprocess
import sys
import tempfile

import go_tools
import python_tools
from checks import Failed, Skipped, expect, run

sys.path.append(os.path.join(go_tools.ROOT, "demo"))
import clients
from demo import Simulated
from processes import DemoError, Processes

CLIENT = "openai==3.54.0"
MODEL = "sim-model"
COUNTED = ["inference_model_request_total", "inference_model_input_tokens_sum", "inference_model_output_tokens_sum"]
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Where does the river go?"}]},
]


def main():
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(folder)
        checks = [("the client is there", gateway.find_client), ("the servers, epp and Envoy start", gateway.open)]
        checks += [(name, lambda ask=ask: gateway.answers(ask)) for name, ask in ASKED]
        checks += [("lists models", gateway.lists_models), ("tells of an unknown model", gateway.tells_errors)]
        try:
            status = run("openai", checks)
        finally:
            gateway.close()
    sys.exit(status)


def chat(gateway):
    body = {"model": MODEL, "messages": CONVERSATION, "max_tokens": 7}
    raw = gateway.client.chat.completions.with_raw_response.create(**body)
    answer = raw.parse()
    truth = gateway.direct("/v1/chat/completions", body)
    expect("the text", answer.choices[0].message.content, truth["choices"][0]["message"]["content"])
    expect("the finish reason", answer.choices[0].finish_reason, "length")
    return raw, answer.usage.prompt_tokens, answer.usage.completion_tokens, 7


def streamed_chat(gateway):
    body = {"model": MODEL, "messages": CONVERSATION, "max_tokens": 9}
    raw = gateway.client.chat.completions.with_raw_response.create(
        stream=True, stream_options={"include_usage": True}, **body)
    chunks = list(raw.parse())
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    truth = gateway.direct("/v1/chat/completions", body)
    expect("the text", said, truth["choices"][0]["message"]["content"])
    expect("chunks with usage", [chunk.usage is not None for chunk in chunks], [False] * (len(chunks) - 1) + [True])
    return raw, chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens, 9


def completion(gateway):
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 6}
    raw = gateway.client.completions.with_raw_response.create(**body)
    answer = raw.parse()
    expect("the text", answer.choices[0].text, gateway.direct("/v1/completions", body)["choices"][0]["text"])
    return raw, answer.usage.prompt_tokens, answer.usage.completion_tokens, 6


def embeddings(gateway):
    """The client asks for base64 unless told otherwise, and gives floats all the same."""
    return embedded(gateway, {})


def embeddings_as_floats(gateway):
    return embedded(gateway, {"encoding_format": "float"})


def embedded(gateway, fields):
    body = {"model": MODEL, "input": ["the sea", "a quiet road"]}
    raw = gateway.client.embeddings.with_raw_response.create(**dict(body, **fields))
    answer = raw.parse()
    truth = gateway.direct("/v1/embeddings", body)["data"]
    expect("how many vectors", len(answer.data), len(truth))
    for got, want in zip(answer.data, truth):
        expect("the length of a vector", len(got.embedding), len(want["embedding"]))
        if any(abs(a - b) > 1e-6 for a, b in zip(got.embedding, want["embedding"])):
            raise Failed("vector %d is %s, expected %s" % (got.index, got.embedding, want["embedding"]))
    expect("all tokens", answer.usage.total_tokens, answer.usage.prompt_tokens)
    return raw, answer.usage.prompt_tokens, 0, 0


def response(gateway):
    body = {"model": MODEL, "instructions": "Be brief.", "input": "Where does the river go?"}
    raw = gateway.client.responses.with_raw_response.create(**body)
    answer = raw.parse()
    truth = gateway.direct("/v1/responses", body)
    expect("the text", answer.output_text, truth["output"][0]["content"][0]["text"])
    expect("the status", answer.status, "completed")
    return raw, answer.usage.input_tokens, answer.usage.output_tokens, truth["usage"]["output_tokens"]


def streamed_response(gateway):
    body = {"model": MODEL, "input": CONVERSATION, "max_output_tokens": 8}
    raw = gateway.client.responses.with_raw_response.create(stream=True, **body)
    events = list(raw.parse())
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    truth = gateway.direct("/v1/responses", body)
    expect("the text", said, truth["output"][0]["content"][0]["text"])
    expect("the first event", events[0].type, "response.created")
    expect("the last event", events[-1].type, "response.incomplete")
    expect("the numbers", [event.sequence_number for event in events], list(range(len(events))))
    usage = events[-1].response.usage
    return raw, usage.input_tokens, usage.output_tokens, 8


# What the client asks for. Each gives the raw answer, the prompt and output tokens told, and the latter as expected.
ASKED = [
    ("chat", chat),
    ("streamed chat", streamed_chat),
    ("completion", completion),
    ("embeddings", embeddings),
    ("embeddings as floats", embeddings_as_floats),
    ("response", response),
    ("streamed response", streamed_response),
]


class Gateway:
    def __init__(self, folder):
        self.folder = folder
        self.openai = self.processes = self.stage = self.client = None

    def find_client(self):
        # In front, so that it finds what was installed for it.
        sys.path.insert(0, python_tools.install(CLIENT))
        import openai
        self.openai = openai
        return "openai %s" % openai.__version__

    def open(self):
        if self.openai is None:
            raise Skipped("there is no client")
        if subprocess.run(["cargo", "build", "--quiet", "--bin", "epp"], cwd=go_tools.ROOT).returncode != 0:
            raise Failed("epp does not build")
        self.processes = Processes(self.folder)
        try:
            stage = Simulated(self.processes, clients.Chat(MODEL, {}), 2, 1)
            stage.open()
        except DemoError as error:
            raise Failed(error)
        self.stage = stage
        # Nothing is tried twice, and no proxy of this machine stands between.
        self.client = self.openai.OpenAI(
            base_url="http://127.0.0.1:%d/v1" % stage.picker, api_key="none", max_retries=0, timeout=60,
            http_client=self.openai.DefaultHttpxClient(trust_env=False))
        return "%d servers" % len(stage.servers)

    def close(self):
        if self.processes:
            self.processes.stop()

    def direct(self, path, body):
        """What a server says when it is asked without Envoy and `epp`."""
        with clients.Exchange(self.stage.servers[0].port, json.dumps(body).encode(), "direct", path) as answer:
            text = answer.read().decode()
        if answer.status != 200:
            raise Failed("the server itself answers %d: %s" % (answer.status, text))
        return json.loads(text)

    def answers(self, ask):
        """One request: its answer came from a server, and was counted with its tokens."""
        before = self.counts()
        raw, prompt, output, expected = self.asked(ask)
        expect("output tokens", output, expected)
        if not prompt:
            raise Failed("no prompt tokens are told")
        server = self.server_of(raw.headers)
        wanted = [old + new for old, new in zip(before, (1, prompt, output))]
        try:
            self.processes.wait_for("the counters", lambda: self.counts() == wanted, seconds=5)
        except DemoError:
            told = ", ".join("%s: %d" % pair for pair in zip(COUNTED, self.counts()))
            raise Failed("epp counts %s, expected %s" % (told, [int(count) for count in wanted]))
        return "%d + %d tokens, by %s" % (prompt, output, server)

    def asked(self, ask):
        if self.client is None:
            raise Skipped("there is nobody to ask")
        try:
            return ask(self)
        except (self.openai.OpenAIError, AttributeError) as error:
            raise Failed("%s: %s" % (type(error).__name__, error))

    def server_of(self, headers):
        """The server that names itself in an answer, which must be the one that Envoy had the answer from."""
        name, address = headers.get("x-sim-server"), headers.get("x-upstream")
        expect("who answered", (name, address) in [(s.name, s.address) for s in self.stage.servers], True)
        return name

    def counts(self):
        """What `epp` has counted: requests, prompt tokens, output tokens."""
        if self.stage is None:
            raise Skipped("there is nobody to ask")
        page = clients.metrics(clients.get(self.stage.metrics, "/metrics"))
        return [page.get(name, 0.0) for name in COUNTED]

    def lists_models(self):
        raw = self.asked(lambda _: self.client.models.with_raw_response.list())
        expect("the models", [model.id for model in raw.parse().data], [MODEL])
        return "by %s" % self.server_of(raw.headers)

    def tells_errors(self):
        if self.client is None:
            raise Skipped("there is nobody to ask")
        try:
            self.client.chat.completions.create(model="no-such-model", messages=CONVERSATION)
        except self.openai.NotFoundError as error:
            expect("the reason", "`no-such-model` does not exist" in str(error), True)
            return "by %s" % self.server_of(error.response.headers)
        raise Failed("it is answered")


if __name__ == "__main__":
    main()
