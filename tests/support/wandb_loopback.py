#!/usr/bin/env python3
"""A loopback stand-in for the W&B server, for hermetic end-to-end tests.

The real, unmodified wandb client (SDK, `wandb sweep`, `wandb agent`, `wandb sync`) talks to
it over 127.0.0.1, and all it sends is recorded: sweeps, agents, runs (config, history,
summary, system events, console output, exit code, state), run files and artifacts.
It needs the standard library and PyYAML, which wandb itself requires.  In a test::

    with LoopbackServer(tmp_path / "server") as server:
        env = {**os.environ, **server.client_env(tmp_path / "client")}
        subprocess.run([sys.executable, "train.py"], env=env, check=True)
        (run,) = server.record()["runs"]
        assert run["state"] == "finished" and run["history"][-1]["loss"] < 1

From a shell, `python wandb_loopback.py --state DIR` prints one JSON line (url, client env) and
serves until SIGINT or SIGTERM.  DIR gets record.json (what record() returns; written at the
end of each run and of the server), requests.jsonl (a line a request) and files/ (uploads).
GET /_record answers with the record, POST /_stop?run=ID stops a run as the web page would.

What the client asks and this file does not know (a GraphQL root field, a URL) is counted
in record()["unknown"]: let tests assert that it is empty, to see when wandb changes.
Left out: Bayesian search (random is used), early termination, downloads, multipart uploads.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import math
import os
import random
import re
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

Json = dict[str, Any]
API_KEY = "0123456789abcdef" * 2 + "01234567"  # a dummy; the client wants 40 characters
HISTORY, EVENTS, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json"


# ---------------------------------------------------------------------- GraphQL
def read_graphql(document: str, variables: Json) -> tuple[list[str], Json]:
    """The fields at the root of an operation, and its arguments at any depth.

    Arguments are named as in the schema: the client is free to name variables as it likes.
    `args["*"]` has all the strings among them.  Selections are not read: an answer holds
    more than was asked for, which the client passes over.
    """
    document = re.sub(r"#.*", "", document)
    body = re.split(r"\b(?:query|mutation)\b[^{(]*(?:\([^)]*\))?[^{]*\{", document, maxsplit=1)[-1]
    roots, depth = [], 0
    for name, token in re.findall(r"(\w+)|([^\s\w])", body):
        roots += [name] if name and depth == 0 else []
        depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(token, 0)
        if depth < 0:
            break
    args = {arg: variables.get(name) for arg, name in re.findall(r"(\w+)\s*:\s*\$(\w+)", body)}
    strings = {value for value in variables.values() if isinstance(value, str)}
    return roots, {**args, **(args.get("input") or {}), "*": strings}


# ------------------------------------------------------------------------- state
def node_id(*parts: str) -> str:
    """A GraphQL id; base64, as the client decodes those of artifacts."""
    return base64.b64encode(":".join(parts).encode()).decode()


@dataclass
class Run:
    """What the server knows of one run."""

    entity: str
    project: str
    name: str
    info: Json = field(default_factory=dict)  # displayName, groupName, tags, host, ...
    config: Json = field(default_factory=dict)
    wandb_config: Json = field(default_factory=dict)  # the client's own entry, "_wandb"
    summary: Json = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)  # stream: number: text
    files: dict[str, int] = field(default_factory=dict)  # name: size in bytes
    artifacts: list[str] = field(default_factory=list)
    sweep: str | None = None
    sweep_args: Json | None = None
    sessions: int = 0  # how many processes opened the run; above 1, it was resumed
    exit_code: int | None = None
    abandoned: bool = False  # its agent saw it end, but the run never said so itself
    stop_requested: bool = False
    preempting: bool = False  # it has said that it is about to be taken off its machine
    agent: str | None = None  # who has it
    last_seen: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        return node_id("Run", "v1", self.name, self.project, self.entity)

    def state(self, crash_after: float) -> str:
        """The state that W&B would show."""
        if self.preempting and (self.abandoned or self.exit_code):
            return "preempted"
        if self.stop_requested and (self.abandoned or self.exit_code is not None):
            return "killed"
        if self.exit_code is not None:
            return "failed" if self.exit_code else "finished"
        if self.abandoned or (self.sessions and time.time() - self.last_seen > crash_after):
            return "crashed"
        if self.preempting and self.exit_code is None:
            return "preempting"
        return "running" if self.sessions else "pending"

    def stream(self, name: str) -> list[str]:
        lines = self.lines.get(name, {})
        return [lines[number] for number in sorted(lines)]

    def json(self, crash_after: float) -> Json:
        """The run as tests see it."""
        shown = {
            name: getattr(self, name)
            for name in (
                "exit_code",
                "preempting",
                "sessions",
                "sweep",
                "sweep_args",
                "info",
                "config",
                "summary",
                "files",
                "artifacts",
            )
        }
        return {
            "id": self.name,
            "path": f"{self.entity}/{self.project}/{self.name}",
            "state": self.state(crash_after),
            **shown,
            "output": self.stream("output.log"),
            "history": [json.loads(line) for line in self.stream(HISTORY)],
            "events": [json.loads(line) for line in self.stream(EVENTS)],
        }


def draw(spec: Json, rng: random.Random) -> Any:
    """A random value of a sweep parameter."""
    if "parameters" in spec:
        return {name: draw(inner, rng) for name, inner in spec["parameters"].items()}
    if "min" not in spec:
        return rng.choice(spec.get("values") or [spec["value"]])
    low, high, kind = spec["min"], spec["max"], spec.get("distribution")
    if kind == "log_uniform_values":
        return math.exp(rng.uniform(math.log(low), math.log(high)))
    return rng.randint(low, high) if kind == "int_uniform" else rng.uniform(low, high)


def grid(parameters: Json) -> Iterator[Json]:
    """Every combination of the sweep parameters; the last varies fastest."""
    axes = [
        list(grid(spec["parameters"]))
        if "parameters" in spec
        else spec.get("values") or [spec["value"]]
        for spec in parameters.values()
    ]
    return (dict(zip(parameters, point, strict=True)) for point in itertools.product(*axes))


@dataclass
class Sweep:
    """A sweep, with the runs it still has to hand out."""

    entity: str
    project: str
    name: str
    source: str = ""  # YAML, as the client sent it
    config: Json = field(default_factory=dict)
    points: Iterator[Json] = field(default_factory=lambda: iter(()))
    state: str = "RUNNING"


class Store:
    """All the state, and the resolvers of the GraphQL schema; callers hold `lock`."""

    def __init__(self, state_dir: Path, entity: str, crash_after: float) -> None:
        self.dir, self.entity, self.crash_after = state_dir, entity, crash_after
        self.url = ""  # known once the port is
        self.late = 0.0  # seconds to wait before a run that failed gets its last answer
        self.lock = threading.RLock()
        self.runs: dict[tuple[str, str, str], Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.agents: dict[str, Json] = {}
        self.artifacts: dict[str, Json] = {}
        self.unknown: Counter[str] = Counter()
        state_dir.mkdir(parents=True, exist_ok=True)
        self.requests = (state_dir / "requests.jsonl").open("a", buffering=1, encoding="utf-8")

    def record(self) -> Json:
        with self.lock:
            sweeps = [
                {
                    "id": s.name,
                    "path": f"{s.entity}/{s.project}/{s.name}",
                    "state": s.state,
                    "config": s.config,
                    "runs": [r.name for r in self.runs.values() if r.sweep == s.name],
                }
                for s in self.sweeps.values()
            ]
            now = {
                "runs": [run.json(self.crash_after) for run in self.runs.values()],
                "sweeps": sweeps,
                "agents": list(self.agents.values()),
                "artifacts": list(self.artifacts.values()),
                "unknown": self.unknown,
            }
            copy: Json = json.loads(json.dumps(now))
            return copy

    def save(self) -> None:
        partial = self.dir / "record.json.part"
        partial.write_text(json.dumps(self.record(), indent=1), encoding="utf-8")
        partial.replace(self.dir / "record.json")

    def run(self, entity: str | None, project: str | None, name: str) -> Run:
        """The run of that path; a new one if there is none."""
        key = (entity or self.entity, project or "uncategorized", name)
        return self.runs.setdefault(key, Run(*key))

    # -- runs
    def file_stream(self, run: Run, body: Json) -> Json:
        """Take a post of history, summary, events, output; answer whether to stop."""
        run.last_seen = time.time()
        for name, chunk in body.get("files", {}).items():
            lines = enumerate(chunk["content"], start=chunk["offset"])
            run.lines.setdefault(name, {}).update(lines)
        if summary := run.stream(SUMMARY):
            run.summary = json.loads(summary[-1])
        run.preempting |= bool(body.get("preempting"))
        if body.get("complete"):
            run.exit_code = int(body.get("exitcode") or 0)
            self.save()
        return {"exitcode": None, "limits": {}, "stopped": run.stop_requested}

    def upsert_bucket(self, args: Json) -> Json:
        name = args.get("name") or uuid.uuid4().hex[:8]
        found = [r for r in self.runs.values() if r.id == args.get("id")]
        run = found[0] if found else self.run(args.get("entityName"), args.get("modelName"), name)
        run.last_seen, inserted = time.time(), not run.sessions
        if inserted or args.get("host") or args.get("jobProgram"):  # only wandb.init has these
            run.sessions += 1
            run.exit_code, run.abandoned, run.preempting = None, False, False
        run.sweep = run.sweep or args.get("sweep")
        if args.get("config"):
            config = {k: v.get("value") for k, v in json.loads(args["config"]).items()}
            run.wandb_config = config.pop("_wandb", None) or run.wandb_config
            run.config = config
        if args.get("summaryMetrics"):
            run.summary.update(json.loads(args["summaryMetrics"]))
        known = ("displayName", "groupName", "jobType", "tags", "notes", "host", "jobProgram")
        run.info.update({k: args[k] for k in known if args.get(k)})
        run.info.setdefault("displayName", f"loopback-run-{len(self.runs)}")
        return {"bucket": self.run_node(run), "inserted": inserted}

    def run_node(self, run: Run) -> Json:
        history, events = run.stream(HISTORY), run.stream(EVENTS)
        config = {k: {"value": v} for k, v in {**run.config, "_wandb": run.wandb_config}.items()}
        started = {k: v for k, v in run.wandb_config.items() if k == "t"}
        return {
            "id": run.id,
            "name": run.name,
            "displayName": run.info.get("displayName"),
            "state": run.state(self.crash_after),
            "exitcode": run.exit_code,
            "stopped": run.stop_requested,
            "shouldStop": run.stop_requested,
            "sweepName": run.sweep,
            "tags": run.info.get("tags") or [],
            "notes": run.info.get("notes"),
            "config": json.dumps(config),
            "wandbConfig": json.dumps(started),
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": len(run.stream("output.log")),
            "historyLineCount": len(history),
            "historyTail": json.dumps(history[-1:]),
            "eventsLineCount": len(events),
            "eventsTail": json.dumps(events[-1:]),
            "project": self.project_node(run.project, run.entity),
        }

    # -- sweeps
    def upsert_sweep(self, args: Json) -> Json:
        key = (args.get("entityName") or self.entity, args.get("projectName") or "uncategorized")
        found = [s for s in self.sweeps.values() if node_id("Sweep", s.name) == args.get("id")]
        sweep = found[0] if found else Sweep(*key, uuid.uuid4().hex[:8])
        self.sweeps[sweep.name] = sweep
        if args.get("config"):
            sweep.source, sweep.config = args["config"], yaml.safe_load(args["config"])
            spec, rng = sweep.config.get("parameters", {}), random.Random(0)
            points = (
                grid(spec)
                if sweep.config.get("method") == "grid"
                else (
                    {name: draw(inner, rng) for name, inner in spec.items()}
                    for _ in itertools.count()
                )
            )
            sweep.points = itertools.islice(points, sweep.config.get("run_cap"))
        sweep.state = args.get("state") or sweep.state
        return {"sweep": self.sweep_node(sweep), "configValidationWarnings": []}

    def sweep_node(self, sweep: Sweep) -> Json:
        runs = [{"node": self.run_node(r)} for r in self.runs.values() if r.sweep == sweep.name]
        return {
            "id": node_id("Sweep", sweep.name),
            "name": sweep.name,
            "state": sweep.state,
            "config": sweep.source,
            "method": sweep.config.get("method"),
            "runs": {"edges": runs},
            "project": self.project_node(sweep.project, sweep.entity),
        }

    def create_agent(self, args: Json) -> Json:
        key = node_id("Agent", uuid.uuid4().hex[:8])
        self.agents[key] = {"id": key, "sweep": args["sweep"], "heartbeats": 0, "runs": []}
        return {"agent": self.agents[key]}

    def agent_heartbeat(self, args: Json) -> Json:
        """Tell an agent what to do next: start or stop a run, exit, or nothing."""
        agent = self.agents[args["id"]]
        agent["heartbeats"] += 1
        sweep = self.sweeps[agent["sweep"]]
        alive = {name for name, up in json.loads(args.get("runState") or "{}").items() if up}
        runs = [run for run in self.runs.values() if run.agent == args["id"]]
        for run in runs:
            run.abandoned = run.name not in alive and run.exit_code is None
        commands: list[Json] = [
            {"type": "stop", "run_id": run.name}
            for run in runs
            if run.name in alive and run.stop_requested
        ]
        if sweep.state == "CANCELED":
            commands = [{"type": "exit"}]
        elif sweep.state in ("RUNNING", "FINISHED") and not alive:
            commands = [self.next_job(sweep, args["id"])]
        return {"agent": agent, "commands": json.dumps(commands)}

    def next_job(self, sweep: Sweep, agent: str) -> Json:
        """What an agent without a job gets: one that was preempted comes first, under its id."""
        of_sweep = (run for run in self.runs.values() if run.sweep == sweep.name)
        run = next((one for one in of_sweep if one.state(self.crash_after) == "preempted"), None)
        kind = "resume"
        if run is None and sweep.state == "RUNNING":
            kind, point = "run", next(sweep.points, None)
            if point is None:
                sweep.state = "FINISHED"
            else:
                run = self.run(sweep.entity, sweep.project, uuid.uuid4().hex[:8])
                run.sweep, run.sweep_args, run.config = sweep.name, point, dict(point)
        if run is None:
            return {"type": "exit"}
        run.agent, run.exit_code, run.abandoned, run.preempting = agent, None, False, False
        self.agents[agent]["runs"].append(run.name)
        return {
            "type": kind,
            "run_id": run.name,
            "program": sweep.config.get("program"),
            "args": {name: {"value": value} for name, value in (run.sweep_args or {}).items()},
        }

    # -- files and artifacts
    def upload(self, *path: str) -> Json:
        return {"uploadUrl": f"{self.url}/storage/{quote('/'.join(path))}", "uploadHeaders": []}

    def create_run_files(self, args: Json) -> Json:
        run = self.run(args.get("entityName"), args.get("projectName"), args["runName"])
        files = [
            {"name": name, **self.upload("run", run.entity, run.project, run.name, name)}
            for name in args["files"]
        ]
        return {"runID": run.id, "uploadHeaders": [], "files": files}

    def create_artifact(self, args: Json) -> Json:
        key, name = node_id(uuid.uuid4().hex), args["artifactCollectionName"]
        version = f"v{sum(a['name'] == name for a in self.artifacts.values())}"
        self.artifacts[key] = {
            "id": key,
            "name": name,
            "version": version,
            "type": args.get("artifactTypeName"),
            "aliases": [alias["alias"] for alias in args.get("aliases") or []],
            "metadata": json.loads(args.get("metadata") or "{}"),
            "digest": args.get("digest"),
            "run": args.get("runName"),
            "client_id": args.get("clientID"),
            "files": {},
            "state": "PENDING",
        }
        if args.get("runName"):
            run = self.run(args.get("entityName"), args.get("projectName"), args["runName"])
            run.artifacts.append(f"{name}:{version}")
        return {"artifact": {"id": key, "state": "PENDING", "artifactSequence": {}}}

    def artifact(self, args: Json, **changes: Any) -> Json:
        self.artifacts[args["artifactID"]].update(changes)
        return {"artifact": self.artifacts[args["artifactID"]]}

    def artifact_manifest(self, args: Json) -> Json:
        key = args.get("artifactID") or args["artifactManifestID"]  # one manifest: the same id
        upload = self.upload("artifact", base64.b64decode(key).decode(), "wandb_manifest.json")
        return {"artifactManifest": {"id": key, "file": {"id": key, **upload}}}

    def create_artifact_files(self, args: Json) -> Json:
        nodes: list[Json] = [
            {
                "artifact": {"id": f["artifactID"]},
                "storagePath": f["name"],
                **self.upload("artifact", base64.b64decode(f["artifactID"]).decode(), f["name"]),
            }
            for f in args["artifactFiles"]
        ]
        return {"files": {"edges": [{"node": node} for node in nodes]}}

    def put_file(self, path: str, data: bytes) -> None:
        """Keep an upload: run/ENTITY/PROJECT/RUN/NAME or artifact/ID/NAME."""
        kind, *parts = PurePosixPath(path).parts
        if kind not in ("run", "artifact") or ".." in parts:
            raise ValueError(f"upload to {path!r}")
        target = self.dir / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        with self.lock:
            if kind == "run":
                self.run(*parts[:3]).files["/".join(parts[3:])] = len(data)
            else:
                self.artifacts[node_id(parts[0])]["files"]["/".join(parts[1:])] = len(data)

    # -- the schema
    def project_node(self, project: str, entity: str) -> Json:
        return {
            "id": node_id("Project", project, entity),
            "name": project,
            "entity": {"id": node_id("Entity", entity), "name": entity},
        }

    def project(self, args: Json) -> Json:
        """A project and what is asked of it, found by the names among the arguments."""
        names = args["*"]
        run = next((r for r in self.runs.values() if {r.project, r.name} <= names), None)
        sweep = next((s for s in self.sweeps.values() if {s.project, s.name} <= names), None)
        node = self.run_node(run) if run else None
        return {
            **((node or {}).get("project") or {}),
            "run": node,
            "bucket": node,
            "sweep": sweep and self.sweep_node(sweep),
            "artifact": None,
            "artifactType": None,
        }  # the client wants these, if only as null

    def resolvers(self) -> dict[str, Callable[[Json], Any]]:
        """The root fields of the schema."""
        viewer = {
            "id": node_id("User", self.entity),
            "username": self.entity,
            "entity": self.entity,
            "flags": "{}",
            "teams": {"edges": [{"node": {"name": self.entity}}]},
        }
        return {
            "viewer": lambda args: viewer,
            "project": self.project,
            "model": self.project,
            "serverInfo": lambda args: {"features": [], "cliVersionInfo": {}},
            "entity": lambda args: {"name": self.entity, "organization": None},
            "upsertBucket": self.upsert_bucket,
            "upsertSweep": self.upsert_sweep,
            "createAgent": self.create_agent,
            "agentHeartbeat": self.agent_heartbeat,
            "createRunFiles": self.create_run_files,
            "createArtifact": self.create_artifact,
            "createArtifactFiles": self.create_artifact_files,
            "createArtifactManifest": self.artifact_manifest,
            "updateArtifactManifest": self.artifact_manifest,
            "commitArtifact": lambda args: self.artifact(args, state="COMMITTED"),
            "useArtifact": self.artifact,
            "updateArtifact": self.artifact,
            "clientIDMapping": lambda args: {
                "serverID": next(
                    a["id"] for a in self.artifacts.values() if a["client_id"] == args["clientID"]
                )
            },
        }

    def graphql(self, body: Json) -> Json:
        roots, args = read_graphql(body["query"], body.get("variables") or {})
        resolvers = self.resolvers()
        self.unknown.update(name for name in roots if name not in resolvers)
        return {
            "data": {name: resolvers[name](args) if name in resolvers else None for name in roots}
        }


# -------------------------------------------------------------------------- HTTP
class Handler(BaseHTTPRequestHandler):
    """Routes requests to the store."""

    protocol_version = "HTTP/1.1"
    server: HttpServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: requests.jsonl has the requests."""

    def serve(self) -> None:
        store = self.server.store
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        entry: Json = {"time": time.time(), "method": self.command, "path": self.path}
        try:
            status, answer = self.route(data, entry)
        except Exception as error:  # a bug or a gap here; a 4xx, since the client retries a 5xx
            status, answer = 400, {"errors": [{"message": f"wandb_loopback: {error!r}"}]}
            entry["error"] = repr(error)
        with store.lock:
            store.unknown.update([f"{self.command} {self.path}"] if status >= 400 else [])
            if not store.requests.closed:  # else the server is going down
                store.requests.write(
                    json.dumps({**entry, "status": status, "answer": answer}) + "\n"
                )
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = serve

    def route(self, data: bytes, entry: Json) -> tuple[int, Json]:
        store, url = self.server.store, urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        if self.command == "PUT" and parts[0] == "storage":
            store.put_file("/".join(parts[1:]), data)
            return 200, {}
        if url.path == "/_record":
            return 200, store.record()
        if url.path == "/_stop":
            for run in list(store.runs.values()):
                run.stop_requested |= run.name in parse_qs(url.query)["run"]
            return 200, {}
        if url.path.startswith("/sdk/otel/"):  # the client's own telemetry
            return 200, {}
        key = base64.b64encode(f"api:{self.server.api_key}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {key}":
            return 401, {"errors": [{"message": "wrong or no API key"}]}
        if url.path == "/graphql" or (parts[0] == "files" and parts[-1] == "file_stream"):
            entry["request"] = body = json.loads(data)
            if body.get("exitcode"):
                time.sleep(store.late)
            with store.lock:
                return 200, (
                    store.graphql(body)
                    if url.path == "/graphql"
                    else store.file_stream(store.run(*parts[1:4]), body)
                )
        return 404, {"errors": [{"message": "no such URL"}]}


class HttpServer(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128
    store: Store
    api_key: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class LoopbackServer:
    """The server, on threads of this process, while the `with` block runs."""

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        *,
        port: int = 0,
        entity: str = "loopback",
        api_key: str = API_KEY,
        crash_after: float = 300.0,
    ) -> None:
        self.store = Store(Path(state_dir).resolve(), entity, crash_after)
        self.http = HttpServer(("127.0.0.1", port), Handler)
        self.http.store, self.http.api_key = self.store, api_key
        self.url = self.store.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)

    def __enter__(self) -> LoopbackServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
        with self.store.lock:
            self.store.save()
            self.store.requests.close()

    def record(self) -> Json:
        """A copy of all that is known so far."""
        return self.store.record()

    def stop(self, run: str) -> None:
        """Ask a run to end, as the Stop button of its page and early termination do."""
        with self.store.lock:
            for one in self.store.runs.values():
                one.stop_requested |= one.name == run

    def client_env(self, home: str | os.PathLike[str]) -> dict[str, str]:
        """Variables that send a wandb client here and keep its files under `home`.

        Drop all other WANDB_* variables of the environment that these are added to.
        """
        folders = {
            f"WANDB_{name.upper()}DIR": str(Path(home).resolve() / (name.rstrip("_") or "runs"))
            for name in ("", "config_", "cache_", "data_", "artifact_")
        }
        for folder in folders.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
        return {
            **folders,
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.http.api_key,
            "WANDB_ENTITY": self.store.entity,
            "WANDB_MODE": "online",
            "NETRC": os.devnull,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_DISABLE_GIT": "true",
            "WANDB_DISABLE_CODE": "true",
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",  # whole seconds; a fraction means 15
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any free port")
    parser.add_argument("--state", type=Path, required=True, help="folder for what is recorded")
    parser.add_argument("--entity", default="loopback", help="the user's default entity")
    parser.add_argument(
        "--crash-after",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="silence after which a run counts as crashed (default 300)",
    )
    options = parser.parse_args(argv)
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    with LoopbackServer(
        options.state, port=options.port, entity=options.entity, crash_after=options.crash_after
    ) as server:
        print(
            json.dumps(
                {
                    "url": server.url,
                    "port": server.http.server_port,
                    "env": server.client_env(options.state / "client"),
                }
            ),
            flush=True,
        )
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
