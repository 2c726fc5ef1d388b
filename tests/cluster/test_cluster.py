"""A real cluster: `ray up` on three hosts, a study on both workers, closed ports, `ray down`.

The tests share the cluster and run in the order of this file.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import psycopg
import pytest
import requests

from study.config.file import load
from study.search.searcher import OptunaSearcher
from study.search.suggestion import Suggestion
from study.trial.ladder import projections
from study.trial.training import Training
from tests.cluster.cluster import DASHBOARD_PORT, DATABASE_PORT, MLFLOW_PORT, Cluster, cluster
from tests.cluster.derived import ROOT
from tests.cluster.hosts import BUCKET, hosts
from tests.cluster.outsider import CALLS
from tests.faults.books import problems
from tests.support.waiting import wait
from tests.test_own_code import OWN, write_own

pytestmark = pytest.mark.cluster

GCS_PORT = 6379
CLIENT_PORT = 10001
STORE_PORT = 5556
MLFLOW = "http://127.0.0.1:{}/api/2.0/mlflow/experiments/search?max_results=1"
# On two workers, so that one of them trains two.
N_TRIALS = 3


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (
        hosts(tmp_path_factory.mktemp("hosts")) as three,
        cluster(three, tmp_path_factory.mktemp("user")) as made,
    ):
        yield made


def _status(url: str, **request: Any) -> int:
    return requests.get(url, timeout=30, **request).status_code


def _password(up: Cluster) -> tuple[str, str]:
    known = up.secrets()
    return known["MLFLOW_TRACKING_USERNAME"], known["MLFLOW_TRACKING_PASSWORD"]


def _as_outsider(up: Cluster, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the hosts' network but on none of the hosts, without the token."""
    home = up.home / "nobody"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**up.environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _open_ports(up: Cluster) -> dict[str, list[str]]:
    """Host -> ports that are open to the outsider."""
    open_at = {}
    addresses = [host.address for host in up.hosts.all]
    scan = _as_outsider(up, "nmap", "-n", "-Pn", "-T4", "-p-", "-oG", "-", *addresses)
    assert scan.returncode == 0, scan.stderr
    for line in scan.stdout.splitlines():
        head, is_there, ports = line.partition("Ports: ")
        if is_there:
            listed = (entry.strip().split("/") for entry in ports.partition("\t")[0].split(","))
            open_at[head.split()[1]] = [number for number, state, *_ in listed if state == "open"]
    return {host.name: open_at[host.address] for host in up.hosts.all}


def test_three_nodes_are_up_and_the_head_runs_no_trials(up: Cluster) -> None:
    nodes = {node["node_ip"]: node for node in up.nodes()}
    assert nodes.keys() == {host.address for host in up.hosts.all}
    assert {node["state"] for node in nodes.values()} == {"ALIVE"}
    head = nodes[up.hosts.head.address]
    assert head["is_head_node"]
    assert not {"CPU", "GPU"} & head["resources_total"].keys()
    for worker in up.hosts.workers:
        assert nodes[worker.address]["resources_total"]["CPU"] == 1


def test_mlflow_keeps_its_records_in_postgresql_and_both_want_a_password(up: Cluster) -> None:
    with up.tunnel(MLFLOW_PORT) as port:
        url = MLFLOW.format(port)
        assert _status(url) == 401
        assert _status(url, auth=("admin", "password1234")) == 401
        assert _status(url, auth=_password(up)) == 200
        # DNS rebinding is refused.
        assert _status(url, auth=_password(up), headers={"Host": "evil.example"}) == 403
    with up.database() as database:
        assert database.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    with up.tunnel(DATABASE_PORT) as port:
        for user, password in product(("mlflow", "owner", "postgres"), (None, "", "mlflow")):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(
                    host="127.0.0.1", port=port, user=user, password=password, dbname="mlflow"
                )


def test_secrets_are_readable_by_their_owner_alone_and_on_no_command_line(up: Cluster) -> None:
    head = up.hosts.head
    listed = head.run(
        "find .iresnet-study .ray -type f -perm /077 ! -name '*.log' ! -name lock ! -name storage"
    )
    assert listed.stdout == ""
    folder = up.hosts.folder / "head" / ".iresnet-study"
    assert (folder / "mlflow.log").stat().st_mode & 0o777 == 0o600
    secrets = json.loads((folder / "secrets.json").read_text())
    assert len(set(secrets.values())) == len(secrets) == 4
    for log in folder.rglob("*.log"):
        assert not [secret for secret in secrets.values() if secret in log.read_text()], log
    hba = (folder / "postgres" / "pg_hba.conf").read_text().splitlines()
    methods = {line.split()[-1] for line in hba if line and not line.startswith("#")}
    assert methods == {"scram-sha-256"}
    for host in up.hosts.all:
        lines = "\n".join(host.processes().values())
        assert not [name for name, value in secrets.items() if value in lines]
        assert up.token not in lines
    for worker in up.hosts.workers:
        seen = worker.run("ls ~/.iresnet-study; cat /proc/[0-9]*/environ | tr '\\0' '\\n'").stdout
        assert "environment" not in seen.split()
        assert "MLFLOW" not in seen
        assert secrets["admin_password"] not in seen


def test_ray_refuses_whoever_has_no_token(up: Cluster) -> None:
    right, wrong = (f"Bearer {token}" for token in (up.token, "wrong"))
    with grpc.insecure_channel(f"{up.hosts.head.address}:{GCS_PORT}") as channel:
        listed = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        for metadata in ((), (("authorization", wrong),)):
            with pytest.raises(grpc.RpcError) as refused:
                listed(b"", timeout=30, metadata=metadata)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        nodes = listed(b"", timeout=30, metadata=(("authorization", right),))
        assert all(host.address.encode() in nodes for host in up.hosts.all)
    with up.tunnel(DASHBOARD_PORT) as port:
        url = f"http://127.0.0.1:{port}/api/jobs/"
        assert _status(url) == 401
        assert _status(url, headers={"Authorization": wrong}) == 403
        assert _status(url, headers={"Authorization": right}) == 200


# A folder of images in a store.
PUT_IMAGES = """
import boto3
store = boto3.client("s3")
store.create_bucket(Bucket="pictures")
for number in range(50):
    store.put_object(Bucket="pictures", Key=f"digits/{number}.png", Body=b"x")
"""


@pytest.fixture
def store(up: Cluster) -> Iterator[dict[str, str]]:
    """A store on the head, as environment variables of whoever reads it."""
    head = up.hosts.head
    environment = {
        "AWS_ENDPOINT_URL": f"http://{head.address}:{STORE_PORT}", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    exported = "; ".join(f"export {name}={value}" for name, value in environment.items())
    head.run(f"setsid moto_server -H 0.0.0.0 -p {STORE_PORT} < /dev/null > store.log 2>&1 &")
    listens = f"until echo > /dev/tcp/{head.address}/{STORE_PORT}; do sleep 0.2; done 2> /dev/null"
    head.run(f"{listens}; {exported}; python - <<'END'\n{PUT_IMAGES}\nEND")
    yield environment
    head.kill("moto_server")


def trained_here(file: Path) -> dict[str, float]:
    """Trial or projection -> the last value of the example's metric, of a study of its samples,
    without Ray."""
    config = load(file, {"data.root": "nowhere", "training.max_epochs": 1})
    searcher, found = OptunaSearcher(config), {}
    for number in range(N_TRIALS):
        suggestion = Suggestion(**searcher.suggest(str(number)))  # type: ignore[arg-type]
        training = Training(config.resolve(suggestion.sample, suggestion.seed))
        report = training.run_to_report().epoch
        assert report is not None
        found[suggestion.trial_id] = report.own[OWN]
        for rung in projections(training, training.certified()):
            found[f"{suggestion.trial_id}@{rung.report.projected_to:g}"] = rung.report.own[OWN]
    return found


def test_a_study_with_code_and_data_of_its_users_own_runs_over_the_cluster(
    up: Cluster,
    store: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The example of study/README.md, submitted from outside with only the packages that it needs,
    to workers that lack its code; and with a root in a store, which each node reads once: the
    head, which checks the data, and the workers, one of which trains two trials. This process
    trains the same networks, bit for bit."""
    folder = tmp_path_factory.mktemp("submitted")
    shorter = {
        "search": {"sampler": "sobol", "n_trials": N_TRIALS, "ladder": [0.3]},
        # Within a large radius every attack succeeds at once.
        "evaluation": {"radius": 4.0, "n_inverse_samples": 16},
    }
    for package in ("models", "study"):
        shutil.copytree(ROOT / package, folder / package)
    data = {"name": "own:digits", "root": "s3://pictures/digits"}
    write_own(folder, data=data, **shorter)
    launch = ["python", "-m", "study.launch", "own.yaml", "--epochs", "1"]
    assert "succeeded" in up.submit(folder, *launch, timeout_seconds=300, environment=store)
    bucket = up.hosts.bucket
    assert (bucket / "studies" / "own" / "tuner.pkl").exists()
    assert list((bucket / "artifacts").rglob("certificate.json"))
    with up.database() as database:
        nodes = database.execute("SELECT DISTINCT value FROM tags WHERE key = 'study.node'")
        assert {node for (node,) in nodes} == {worker.address for worker in up.hosts.workers}
        assert problems(database, "own", bucket / "studies" / "own", N_TRIALS, 1, (OWN,)) == []
        found = database.execute(
            "SELECT runs.name, latest_metrics.value FROM runs "
            "JOIN latest_metrics USING (run_uuid) WHERE key = 'ood_auroc'"
        ).fetchall()
    monkeypatch.syspath_prepend(folder)
    of_networks = {name.partition(":")[0]: value for name, value in found}
    assert of_networks == trained_here(folder / "own.yaml")
    log = up.hosts.head.run("cat store.log").stdout
    reads = Counter(re.findall(r'"GET /(?:pictures/)?(digits/\d+\.png)', log))
    assert len(reads) == 50
    assert set(reads.values()) == {3}


def test_nothing_is_given_away_to_who_is_in_the_security_group_without_a_token(up: Cluster) -> None:
    """For what the group lets in from elsewhere, see tests/test_cluster_yaml.py."""
    ports = _open_ports(up)
    # The services for studies listen only on the head's loopback.
    assert not {str(MLFLOW_PORT), str(DATABASE_PORT), str(DASHBOARD_PORT)} & set(ports["head"])
    assert {str(GCS_PORT), str(CLIENT_PORT)} <= set(ports["head"])
    refused_calls: set[str] = set()
    for host in up.hosts.all:
        probe = (sys.executable, "-m", "tests.cluster.outsider", host.address, *ports[host.name])
        answers = _as_outsider(up, *probe)
        assert answers.returncode == 0, answers.stderr
        looks = json.loads(answers.stdout)
        assert {what for at in looks.values() for what in at["given"]} <= {"counters"}, looks
        refused_calls |= {call for at in looks.values() for call in at["refused"]}
    # Ray has all of these calls.
    assert refused_calls == set(CALLS)
    # SSH does not even ask for a password.
    login = ("ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes")
    known = ("-o", "UserKnownHostsFile=/dev/null", f"root@{up.hosts.head.address}", "true")
    refused = _as_outsider(up, *login, *known)
    assert "Permission denied (publickey)" in refused.stderr


def _services(up: Cluster) -> dict[int, str]:
    """PID -> command line of the first process of PostgreSQL and both processes of MLflow."""
    lines = up.hosts.head.processes()
    return {pid: line for pid, line in lines.items() if re.search("-m (mlflow|uvicorn)| -D ", line)}


def test_a_start_leaves_the_services_that_run_and_restarts_those_that_were_killed(
    up: Cluster,
) -> None:
    before, environment = _services(up), up.secrets()
    assert len(before) == 3
    assert environment["STUDY_STORAGE_PATH"] == f"{BUCKET}/studies"
    up.start_services()
    assert (_services(up), up.secrets()) == (before, environment)
    for words in (("-m mlflow",), ("-m uvicorn",), ("postgres",)):
        assert up.hosts.head.kill(*words)
    wait(lambda: not _services(up), 20, "a service does not end")
    up.start_services()
    assert up.secrets() == environment
    with up.tunnel(MLFLOW_PORT) as port:
        assert _status(MLFLOW.format(port), auth=_password(up)) == 200


def test_the_services_stop_when_ray_has_nothing_to_do(up: Cluster) -> None:
    looks = []

    class Jobs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            looks.append(self.path)
            jobs = [{"status": "RUNNING" if len(looks) < 20 else "SUCCEEDED"}]
            # A dashboard that has trouble of its own does not say that there is nothing to do.
            self.send_response(500 if len(looks) in (3, 4) else 200)
            self.end_headers()
            self.wfile.write(json.dumps(jobs).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((up.hosts.gateway, 0), Jobs) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        dashboard = f"http://{up.hosts.gateway}:{server.server_port}"
        # Looked at ten times in 0.6 s: twice as long as it may be idle, a job runs.
        said = up.on_head(
            f"stop-when-idle --minutes 0.01 --dashboard {dashboard} --then 'touch shut-down'"
        )
        server.shutdown()
        thread.join()
    assert "no job for 0.01 minutes" in said
    assert len(looks) > 20
    assert set(looks) == {"/api/jobs/"}
    assert up.hosts.head.run("ls iresnet-study/shut-down").stdout
    assert _services(up) == {}


def test_ports_that_cannot_be_used_are_refused_in_one_line(up: Cluster) -> None:
    # PostgreSQL starts first. sshd has the port.
    assert up.start_services("--port 22", exit_code=2) == (
        "error: --port: the port must be free, but something listens on 22\n"
    )
    assert up.start_services("--database-port 1", exit_code=2) == (
        "error: --database-port: it must be that of the database that runs, "
        f"{DATABASE_PORT}, but got 1\n"
    )


def test_ray_down_leaves_nothing_of_ray(up: Cluster) -> None:
    assert "No nodes remaining" in up.down()
    left = [line for host in up.hosts.all for line in host.processes().values() if "ray" in line]
    assert left == []
