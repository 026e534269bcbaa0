"""One row at a time: how long a call takes, and how many a threaded server answers.

    python examples/benchmarks/service.py --rounds 9

Every contender scores or transforms one row of 20 features in turn, so that all of them meet the
same machine; times are of the processor. Then a server of threads in a process of its own answers
eight clients, each of which asks again as soon as it has an answer; "nothing" is the server itself.
"ratio" is the median of the rounds' ratios to the detector.
"""

import argparse
import http.client
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

CLIENTS = 8


def contenders():
    """Functions of one row (1, 20), by name."""
    import onnxruntime
    from sklearn.decomposition import PCA

    from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
    from skae.export import to_onnx

    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 20)) @ rng.normal(size=(20, 20))
    detector = AutoencoderAnomalyDetector(random_state=0, device="cpu").fit(X)
    transformer = AutoencoderTransformer(random_state=0, device="cpu").fit(X)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        to_onnx(detector, path, method="score_samples")
        session = onnxruntime.InferenceSession(path, options)
    return {
        "nothing": lambda row: row[:, 0],
        "detector": detector.score_samples,
        "detector, ONNX": lambda row: session.run(["score_samples"], {"X": row})[0],
        "transformer": transformer.transform,
        "PCA": PCA(10).fit(X).transform,
    }


class Handler(BaseHTTPRequestHandler):
    """Answers a row of numbers at /NAME by what the contender of that number makes of it."""

    protocol_version = "HTTP/1.1"
    functions = ()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        row = np.array(json.loads(body), dtype=np.float32)
        result = self.functions[int(self.path[1:])](row)
        answer = json.dumps(np.asarray(result).tolist()).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n"
        self.wfile.write(head.encode() + answer)


def serve(pipe):
    Handler.functions = tuple(contenders().values())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(server.server_address[1])
    server.serve_forever()


def requests_in(seconds, port, number, row):
    """How many requests a second eight clients get answered."""
    body, counts = json.dumps(row.tolist()), [0] * CLIENTS
    end = time.perf_counter() + seconds

    def ask(client):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < end:
            connection.request("POST", f"/{number}", body)
            connection.getresponse().read()
            counts[client] += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def milliseconds(function, row, calls=50):
    times = []
    for _ in range(calls):
        start = time.thread_time()
        function(row)
        times.append(time.thread_time() - start)
    return 1e3 * statistics.median(times)


def table(title, names, rounds):
    print(f"\n| contender | {title} | ratio |\n|---|---:|---:|")
    for i, name in enumerate(names):
        median = statistics.median(values[i] for values in rounds)
        ratio = statistics.median(values[i] / values[1] for values in rounds)
        print(f"| {name} | {median:.3g} | {ratio:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round of the server")
    arguments = parser.parse_args()
    functions = contenders()
    row = np.random.default_rng(1).normal(size=(1, 20)).astype(np.float32)
    for function in functions.values():
        milliseconds(function, row)
    rounds = [[milliseconds(f, row) for f in functions.values()] for _ in range(arguments.rounds)]
    table("one row, processor ms", functions, rounds)

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    port = ours.recv()
    rounds = [
        [requests_in(arguments.seconds, port, i, row) for i in range(len(functions))]
        for _ in range(arguments.rounds)
    ]
    process.terminate()
    process.join()
    table(f"answers / s to {CLIENTS} clients", functions, rounds)


if __name__ == "__main__":
    main()
