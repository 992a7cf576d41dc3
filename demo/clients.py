"""HTTP clients of the demo: chat requests through Envoy, and the pages that epp and the servers show."""

import http.client
import json
import re


class Server:
    """One simulated model server, seen through its own metrics."""

    def __init__(self, name, port):
        self.name, self.port = name, port
        self.address = f"127.0.0.1:{port}"

    def counters(self):
        """Its own counters and gauges: metric name → sum over series."""
        values = {}
        for line in get(self.port, "/metrics").splitlines():
            match = re.match(r"(vllm:\w+)(?:\{.*\})? (\S+)", line)
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
    """What came back for one request."""

    def __init__(self, status, server, text, cached, prompt_tokens, body):
        self.status, self.server, self.text = status, server, text
        self.cached, self.prompt_tokens, self.body = cached, prompt_tokens, body


def chat(port, messages, request_id, max_tokens=24):
    """Sends one chat request and waits for its answer."""
    body = json.dumps({"model": "sim-model", "messages": messages, "max_tokens": max_tokens})
    return post(port, body.encode(), request_id)


def post(port, body, request_id):
    """Posts a body to the chat API."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"content-type": "application/json", "x-request-id": request_id}
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        raw = answer.read().decode()
        server = answer.getheader("x-sim-server")
    finally:
        connection.close()
    if answer.status != 200:
        return Answer(answer.status, server, "", 0, 0, raw)
    parsed = json.loads(raw)
    usage = parsed["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    text = parsed["choices"][0]["message"]["content"]
    return Answer(200, server, text, cached, usage["prompt_tokens"], raw)


def decision(metrics_port, request_id):
    """The recorded decision of a request."""
    page = json.loads(get(metrics_port, "/debug/decisions?limit=1&request_id=" + request_id))
    return page["decisions"][0] if page["decisions"] else None
