"""HTTP clients of the demos: chat requests through Envoy, and the pages that epp and the servers show."""

import http.client
import json
import re


class Server:
    """One model server, seen through its own metrics."""

    def __init__(self, name, port):
        self.name, self.port = name, port
        self.address = f"127.0.0.1:{port}"

    def counters(self):
        """Its own counters and gauges: metric name → sum over series."""
        return metrics(get(self.port, "/metrics"))


def metrics(page):
    """Sample name → sum over series."""
    values = {}
    for line in page.splitlines():
        match = re.match(r"([a-z][\w:]*)(?:\{.*\})? (\S+)", line)
        if match:
            values[match[1]] = values.get(match[1], 0.0) + float(match[2])
    return values


def get(port, path):
    """GETs a page of this machine; no proxy is ever asked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {body}")
        return body
    finally:
        connection.close()


class Answer:
    """What came back for one request; `upstream` is the address that Envoy had it from, if any."""

    def __init__(self, status, upstream, text, usage, body):
        self.status, self.upstream, self.text, self.body = status, upstream, text, body
        self.prompt_tokens = usage.get("prompt_tokens", 0)
        self.completion_tokens = usage.get("completion_tokens", 0)
        self.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


class Chat:
    """A model's chat API on this machine, by its port."""

    def __init__(self, model, extra):
        #: What goes into each request besides its messages.
        self.fields = dict(extra, model=model)

    def send(self, port, messages, request_id, max_tokens=24):
        """Sends one chat request and waits for its answer."""
        body = json.dumps(dict(self.fields, messages=messages, max_tokens=max_tokens))
        return post(port, body.encode(), request_id)

    def stream(self, port, messages, request_id, max_tokens):
        """Asks for a stream; gives what came, piece by piece as it came."""
        fields = dict(self.fields, messages=messages, max_tokens=max_tokens, stream=True)
        body = json.dumps(dict(fields, stream_options={"include_usage": True}))
        with Exchange(port, body.encode(), request_id) as answer:
            pieces = []
            while not answer.isclosed():
                piece = answer.read1(1 << 16)
                if piece:
                    pieces.append(piece)
            return answer.status, pieces


class Exchange:
    """A request and its answer, as a context."""

    def __init__(self, port, body, request_id, path="/v1/chat/completions"):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        headers = {"content-type": "application/json", "x-request-id": request_id}
        self.connection.request("POST", path, body, headers)

    def __enter__(self):
        return self.connection.getresponse()

    def __exit__(self, *_):
        self.connection.close()


def post(port, body, request_id):
    """Posts a body to the chat API."""
    with Exchange(port, body, request_id) as answer:
        raw = answer.read().decode()
        upstream = answer.getheader("x-upstream")
    if answer.status != 200:
        return Answer(answer.status, upstream, "", {}, raw)
    parsed = json.loads(raw)
    return Answer(200, upstream, parsed["choices"][0]["message"]["content"], parsed["usage"], raw)


def decision(metrics_port, request_id):
    """The recorded decision of a request."""
    page = json.loads(get(metrics_port, "/debug/decisions?limit=1&request_id=" + request_id))
    return page["decisions"][0] if page["decisions"] else None
