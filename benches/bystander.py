#!/usr/bin/env python3
"""How long a bystander waits while other clients make a server's memory grow, ours beside a peer.

    benches/bystander.py --a 'target/release/rufous-server' --b redis-server [--shapes big-set,echo]
                         [--port 22100] [--rounds 3]

Each shape is played against A and against B in turns, on a fresh server each time. A bystander, a
process of its own, sends PING and GET in turn, each when the last is answered; printed are its worst
wait, the wait that one in a thousand exceeds, how much the server's resident memory grew at most,
and how long the shape took (of several rounds the median). Nothing here passes or fails: the
figures are for reading side by side, since the machine's own pauses are in both. Every load is
bounded and goes to 127.0.0.1 only.
"""
import argparse
import multiprocessing
import os
import resource
import selectors
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PASSWORD = "secret"


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def call(s, *words):
    s.sendall(encode(*words))
    return s.recv(1 << 16)


def encode(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def watch(port, password, ready, done, waits):
    """The bystander: its worst waits go into the pipe when it is told to stop."""
    s = connect(port)
    if password:
        call(s, "AUTH", password)
    requests = [encode("PING"), encode("GET", "bystander")]
    for request in requests * 50:
        s.sendall(request)
        s.recv(1 << 16)
    taken = []
    ready.set()
    while not done.is_set():
        for request in requests:
            start = time.perf_counter()
            s.sendall(request)
            if not s.recv(1 << 16):
                break
            taken.append(time.perf_counter() - start)
    taken.sort()
    waits.send((taken[-1] * 1e3, taken[-1 - len(taken) // 1000] * 1e3, len(taken)))


class Server:
    def __init__(self, command, port, extra):
        self.port, self.dir = port, tempfile.mkdtemp(prefix="bystander.")
        common = ["--port", str(port), "--save", "", "--dir", self.dir, "--bind", "127.0.0.1"]
        words = [*shlex.split(command), *common, *extra]
        with open(os.path.join(self.dir, "log"), "w") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        for _ in range(400):
            try:
                connect(port).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{command} did not start")

    def resident_kb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            # A process that is ending has no memory any more.
            line = next((line for line in status if line.startswith("VmRSS")), "VmRSS: 0 kB")
            return int(line.split()[1])

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Sampler(threading.Thread):
    """The largest resident memory, looked at every few milliseconds."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.ends, self.start_kb = server, threading.Event(), server.resident_kb()
        self.peak_kb = self.start_kb

    def run(self):
        while not self.ends.wait(0.005):
            self.peak_kb = max(self.peak_kb, self.server.resident_kb())

    def growth_mb(self):
        self.peak_kb = max(self.peak_kb, self.server.resident_kb())
        return (self.peak_kb - self.start_kb) / 1024


def send_all(sockets, data, pace=0):
    """Sends the same bytes on all sockets, as fast as the server takes them."""
    selector = selectors.DefaultSelector()
    for s in sockets:
        s.setblocking(False)
        selector.register(s, selectors.EVENT_WRITE, 0)
    stuck = time.monotonic() + 10
    while selector.get_map() and time.monotonic() < stuck:
        for key, _ in selector.select(0.2):
            try:
                sent = key.data + key.fileobj.send(data[key.data:key.data + (256 << 10)])
            except BlockingIOError:
                continue
            except OSError:
                selector.unregister(key.fileobj)
                continue
            stuck = time.monotonic() + 2
            if sent == len(data):
                selector.unregister(key.fileobj)
            else:
                selector.modify(key.fileobj, selectors.EVENT_WRITE, sent)


def settle(port, password=None):
    """Waits until the server has done what was sent before this."""
    s = connect(port)
    if password:
        call(s, "AUTH", password)
    for _ in range(5):
        call(s, "PING")
        time.sleep(0.05)


def unfinished(port, clients, data):
    sockets = [connect(port) for _ in range(clients)]
    send_all(sockets, data)
    settle(port)
    return sockets


def long_arguments(port):
    return unfinished(port, 200, b"*2\r\n$4\r\nECHO\r\n$4194304\r\n" + b"x" * (2 << 20))


def tiny_arguments(port):
    s = connect(port)
    data = b"*1048576\r\n" + b"$1\r\nx\r\n" * 1048575
    s.sendall(data)
    settle(port)
    return [s]


def many_tiny_arguments(port):
    s = connect(port)
    s.sendall(b"*1048577\r\n$3\r\nDEL\r\n" + b"$1\r\nx\r\n" * 1048576)
    s.recv(1 << 16)
    return [s]


def unread_echoes(port):
    s = connect(port)
    send_all([s], encode("ECHO", b"x" * 8000) * (200 << 20 >> 13))
    settle(port)
    return [s]


def idle_clients(port):
    sockets = []
    for _ in range(8000):
        sockets.append(connect(port))
    yield None
    request = encode("GET", "bystander")
    for s in sockets:
        s.send(request)
    for s in sockets:
        s.recv(100)
    yield sockets


def slow_readers(port):
    s = connect(port)
    call(s, "SET", "slow", b"x" * 100_000)
    sockets = []
    for _ in range(5000):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", port))
        sockets.append(s)
    send_all(sockets, encode("GET", "slow"))
    for _ in range(3):
        for s in sockets:
            try:
                s.recv(4096)
            except OSError:
                pass
    settle(port)
    return sockets


def big_set(port):
    s = connect(port)
    s.settimeout(120)
    s.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % (512 << 20))
    chunk = b"x" * (1 << 20)
    for _ in range(512):
        s.sendall(chunk)
    s.sendall(b"\r\n")
    s.recv(100)
    settle(port)
    return [s]


def before_auth(port):
    sockets = [connect(port) for _ in range(2000)]
    send_all(sockets, b"*3\r\n$4\r\nAUTH\r\n$16384\r\n" + b"x" * 16384 + b"\r\n$16384\r\n" + b"x" * 9000)
    settle(port, PASSWORD)
    return sockets


LOG = ("--appendonly", "yes")
SHAPES = {
    "long-args": (long_arguments, (), "200 clients with 2 MB of an unfinished argument each"),
    "tiny-args": (tiny_arguments, (), "1,048,576 tiny arguments but one"),
    "tiny-del": (many_tiny_arguments, (), "the same as a whole DEL"),
    "echo": (unread_echoes, (), "200 MB of ECHO that is never read"),
    "idle": (idle_clients, (), "8,000 idle clients that send one GET each"),
    "slow": (slow_readers, (), "5,000 slow readers of 100 KB"),
    "big-set": (big_set, (), "one SET of 512 MB"),
    "big-set-log": (big_set, LOG, "the same with the log"),
    "auth": (before_auth, ("--requirepass", PASSWORD), "2,000 clients before AUTH"),
}


def play(shape, command, port):
    run, extra, _ = SHAPES[shape]
    server = Server(command, port, (*extra, "--maxclients", "20000"))
    try:
        prepared = run(port) if run is idle_clients else None
        if prepared:
            next(prepared)
        fork = multiprocessing.get_context("fork")
        ready, done = fork.Event(), fork.Event()
        receiver, sender = fork.Pipe(False)
        password = PASSWORD if shape == "auth" else None
        bystander = fork.Process(target=watch, args=(port, password, ready, done, sender))
        bystander.start()
        ready.wait(30)
        sampler = Sampler(server)
        sampler.start()
        start = time.monotonic()
        kept = next(prepared) if prepared else run(port)
        took = time.monotonic() - start
        done.set()
        growth = sampler.growth_mb()
        sampler.ends.set()
        worst, rare, count = receiver.recv()
        bystander.join()
        for s in kept:
            s.close()
        return worst, rare, growth, took, count
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--a", required=True, help="the server under test, with arguments")
    parser.add_argument("--b", default="redis-server", help="the peer")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--port", type=int, default=22100)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{'shape':12} {'':2} {'worst ms':>9} {'p99.9 ms':>9} {'+RSS MB':>8} {'took s':>7} {'asked':>7}")
    for shape in options.shapes.split(","):
        rounds = {"A": [], "B": []}
        for _ in range(options.rounds):
            for name, command in (("A", options.a), ("B", options.b)):
                rounds[name].append(play(shape, command, options.port))
        for name, results in rounds.items():
            worst, rare, growth, took, count = map(statistics.median, zip(*results))
            print(f"{shape:12} {name:2} {worst:9.1f} {rare:9.2f} {growth:8.0f} {took:7.2f} {count:7.0f}", flush=True)


if __name__ == "__main__":
    main()
