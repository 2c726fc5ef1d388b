""".cluster/kuberay.yaml and the Dockerfile hold what they promise, as far as that can be told
without Kubernetes: by its schemas, by the parsers of what they call, and beside cluster.yaml."""

import json
import re
import shlex
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

import jsonschema
import mlflow.cli
import pytest
import typer
import yaml
from ray.autoscaler._private.kuberay import autoscaling_config
from ray.scripts import scripts

from study import launch
from study.config import file
from study.execution.driver import starting
from tests.cluster.derived import ROOT, real
from tests.support import kuberay
from tests.support.kuberay import Resource, pod_templates

FOLDER = ROOT / ".cluster"
TEXT = (FOLDER / "kuberay.yaml").read_text()
SERVICES = (ROOT / "study" / "head" / "services.py").read_text()
README = (FOLDER / "README.md").read_text()
_ITEMS = json.dumps(yaml.safe_load(TEXT)["items"])
# Mappings whose keys are free.
FREE = {
    "annotations", "clusterSelector", "data", "labels", "limits", "matchLabels", "rayStartParams",
    "requests", "selector",
}  # fmt: skip
# KubeRay's labels of the pods of a RayCluster, and the operator's own.
RAY_LABELS = [
    {"ray.io/cluster": "iresnet-study", "ray.io/node-type": of} for of in ("head", "worker")
]
OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}
# Labels of the pods that answer for names, and of their namespace, in any Kubernetes.
NAMES = [{"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}]
# What programs write to: Ray its logs and sockets, and studies the data that they download.
WRITTEN = {"/tmp", "/home/study"}
# Of Ray's agent, on each node.
AGENT_PORT = 52365


def resources() -> list[Resource]:
    """Every resource, with nothing shared: a test may change one."""
    found: list[Resource] = json.loads(_ITEMS)
    return found


def resource(kind: str, name: str = "iresnet-study") -> Resource:
    (found,) = (r for r in resources() if (r["kind"], r["metadata"]["name"]) == (kind, name))
    return found


def ray_pods() -> list[Resource]:
    """Head and worker."""
    return [template["spec"] for template in pod_templates(resource("RayCluster"))]


def containers(init: bool = True) -> list[Resource]:
    return [
        container
        for one in resources()
        for template in pod_templates(one)
        for key in ("containers", *(["initContainers"] if init else []))
        for container in template["spec"].get(key, [])
    ]


def mappings(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Resource]]:
    """Every mapping below a node, with its path."""
    if isinstance(node, dict):
        yield at, node
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from mappings(value, (*at, key))


def named(key: str) -> set[str]:
    """All values of a key, anywhere in the file."""
    return {found[key] for _, found in mappings(resources()) if isinstance(found.get(key), str)}


@pytest.mark.parametrize("version", kuberay.VERSIONS)
def test_every_resource_is_valid(version: str) -> None:
    for one in resources():
        kuberay.validate(one, version)
    assert len({(one["kind"], one["metadata"]["name"]) for one in resources()}) == len(resources())


def test_a_field_that_is_unknown_is_refused_wherever_it_stands() -> None:
    n_refused = 0
    for one in resources():
        for path, mapping in list(mappings(one)):
            if path and path[-1] in FREE and path[-2:] != ("spec", "selector"):
                continue
            if path == ("spec", "selector") and one["kind"] == "Service":
                continue
            mapping["aFieldThatNobodyKnows"] = "1"
            with pytest.raises(jsonschema.ValidationError):
                kuberay.validate(one, kuberay.VERSIONS[-1])
            del mapping["aFieldThatNobodyKnows"]
            n_refused += 1
    assert n_refused > 100


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayCluster", ("spec", "workerGroupSpecs", 0, "maxReplicas"), "4"),
        ("RayCluster", ("spec", "authOptions", "mode"), "Token"),
        ("RayCluster", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        ("RayCluster", ("spec", "headGroupSpec", "template", "spec", "containers", 0, "env"), {}),
        ("ConfigMap", ("data", "worker_gpus"), 1),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, path: tuple[Any, ...], value: Any) -> None:
    one = node = resource(kind)
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        kuberay.validate(one, kuberay.VERSIONS[-1])


def test_what_is_referred_to_is_there_or_is_made_by_a_command_of_the_readme() -> None:
    keys = {("ConfigMap", "iresnet-study"): set(resource("ConfigMap")["data"])}
    for command in re.findall(r"^kubectl create secret generic .*$", README, re.MULTILINE):
        *_, name = [word for word in shlex.split(command)[:5] if not word.startswith("-")]
        keys["Secret", name] = set(re.findall(r"--from-literal=(\w+)=", command))
    n_seen = 0
    for _, mapping in mappings(resources()):
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if field in mapping:
                assert mapping[field]["key"] in keys[kind, mapping[field]["name"]]
                n_seen += 1
        if "secretRef" in mapping:
            assert ("Secret", mapping["secretRef"]["name"]) in keys
        if "configMap" in mapping:
            used = {item["key"] for item in mapping["configMap"]["items"]}
            assert used <= keys["ConfigMap", mapping["configMap"]["name"]]
    assert n_seen >= 4
    there = {(one["kind"], one["metadata"]["name"]) for one in resources()}
    assert {("PersistentVolumeClaim", name) for name in named("claimName")} <= there
    assert {("ServiceAccount", name) for name in named("serviceAccountName")} <= there
    for url in re.findall(r"http://([\w-]+):(\d+)", TEXT):
        assert int(url[1]) in [
            port["port"] for port in resource("Service", url[0])["spec"]["ports"]
        ]
    for one in resources():
        for template in pod_templates(one):
            volumes = {volume["name"] for volume in template["spec"]["volumes"]}
            for container in of_pod(template):
                assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def of_pod(template: Resource) -> list[Resource]:
    """The containers of a pod, those that only run before the others among them."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def test_the_commands_of_the_readme_name_what_is_there() -> None:
    there = {(one["kind"].lower(), one["metadata"]["name"]) for one in resources()}
    # What the operator makes of them: the head's service, the token, and the pod that submits.
    there |= {("service", "iresnet-study-head-svc"), ("secret", "iresnet-study"), ("job", "mnist")}
    there |= {("secret", name) for name in named("name") if name.startswith("iresnet-study-")}
    short = {"svc": "service", "pvc": "persistentvolumeclaim", "deploy": "deployment"}
    commands = re.findall(r"^[^#\n]*\bkubectl [^#\n]*", README, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        for kind, name in re.findall(r"\b([a-z]+)[/ ](iresnet-study[\w-]*|mnist)\b", command):
            kind = short.get(kind, kind)
            if kind in {known for known, _ in there}:
                assert (kind, name) in there, command
        for path in re.findall(r"(?:-f|--file) (\.[\w./]+)", command):
            assert (ROOT / path).is_file(), command


def test_ports_and_versions_are_those_of_cluster_yaml() -> None:
    config, cluster = real(), resource("RayCluster")["spec"]
    lock = (FOLDER / "requirements.lock").read_text()
    assert f"\nray=={cluster['rayVersion']} \\\n" in lock
    (start,) = (c for c in config["head_start_ray_commands"] if "ray start" in c)
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in head["ports"]}
    # KubeRay looks for these names.
    assert ports == {"gcs-server": int(re.findall(r"--port=(\d+)", start)[0]), "dashboard": 8265}
    assert "-p 8265 -p 5000" in README
    assert resource("Service", "iresnet-study-mlflow")["spec"]["ports"][0]["port"] == 5000
    assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] == config["idle_timeout_minutes"] * 60
    assert cluster["workerGroupSpecs"][0]["maxReplicas"] == config["max_workers"]
    assert "OMP_NUM_THREADS" not in TEXT  # as cluster.yaml unsets it


def test_rays_autoscaler_reads_the_cluster_as_it_is_meant() -> None:
    cluster = resource("RayCluster")
    cluster["metadata"]["namespace"] = "default"
    config = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
    head, worker = config["available_node_types"].values()
    assert (head["resources"]["CPU"], head["resources"]["GPU"]) == (0, 0)
    data = resource("ConfigMap")["data"]
    assert worker["resources"] == {"CPU": 3, "GPU": 1, "memory": 12 * 2**30}
    assert (data["worker_cpus"], data["worker_gpus"]) == ("3", "1")
    assert (worker["min_workers"], worker["max_workers"]) == (0, 4)
    assert config["idle_timeout_minutes"] == real()["idle_timeout_minutes"]


def test_the_job_is_one_of_ours_and_fits_a_worker() -> None:
    job = resource("RayJob", "mnist")["spec"]
    python, _, module, *arguments = shlex.split(job["entrypoint"])
    assert (python, module) == ("python", "study.launch")
    asked = typer.main.get_command(launch.app).make_context("study", arguments).params
    study = file.load(file.locate(asked["space"]))
    trial = {"CPU": study.resources.cpus, "GPU": asked["gpus"]}
    data = resource("ConfigMap")["data"]
    worker = {"CPU": float(data["worker_cpus"]), "GPU": float(data["worker_gpus"])}
    assert starting._n_fit(worker, trial) >= 1
    cluster = resource("RayCluster")
    assert job["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}


def test_ray_and_mlflow_take_their_options() -> None:
    head = resource("RayCluster")["spec"]["headGroupSpec"]
    options = [f"--{name}={value}" for name, value in head["rayStartParams"].items()]
    started = scripts.start.make_context("ray", ["--head", *options]).params
    assert (started["num_cpus"], started["num_gpus"]) == (0, 0)
    (server,) = (c["command"] for c in containers() if "mlflow" in c.get("command", []))
    assert server[:4] == ["python", "-m", "mlflow", "server"]
    taken = mlflow.cli.cli.commands["server"].make_context("mlflow", server[4:]).params
    # As study.head starts it, but for the address.
    assert (taken["app_name"], taken["workers"], taken["port"]) == ("basic-auth", "1", 5000)
    assert taken["allowed_hosts"].split(",")[0].startswith("iresnet-study-mlflow:")
    lines = resource("ConfigMap")["data"]["basic_auth.ini"].splitlines()
    settings = [line for line in lines if re.match(r"(?!database_uri|admin_username)\w+ = ", line)]
    assert len(settings) == 3
    assert all(line in SERVICES for line in settings)


def test_the_head_alone_knows_mlflows_password_and_has_all_that_drivers_need() -> None:
    (head,), (worker,) = (pod["containers"] for pod in ray_pods())
    needed = set(re.findall(r'"(MLFLOW_TRACKING_\w+|STUDY_STORAGE_PATH)"', SERVICES))
    assert needed == {variable["name"] for variable in head["env"]} - {"STORAGE"}
    assert "env" not in worker
    # A variable is replaced by those that stand before it.
    assert [v["name"] for v in head["env"]].index("STORAGE") == 0


def test_probes_ask_for_what_is_open() -> None:
    long_lived = [c for c in containers(init=False) if c["name"] != "ray-job-submitter"]
    assert [c["name"] for c in long_lived] == ["mlflow", "ray-head", "ray-worker"]
    for container in long_lived:
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe"):
            asks = container[probe]["httpGet"]
            assert asks["port"] in ports or asks["port"] == AGENT_PORT
            assert asks["path"] == ("/health" if container["name"] == "mlflow" else "/api/healthz")
    from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS  # without a token

    assert "/api/healthz" in PUBLIC_EXACT_PATHS


def test_every_pod_may_run_where_kubernetes_restricts_pods_and_has_limits() -> None:
    """Kubernetes' Pod Security Standard "restricted"; the autoscaler's part is the operator's."""
    for one in resources():
        for template in pod_templates(one):
            context = template["spec"]["securityContext"]
            assert context["runAsNonRoot"]
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert template["spec"]["enableServiceLinks"] is False
    autoscaler = resource("RayCluster")["spec"]["autoscalerOptions"]
    for container in (*containers(), autoscaler):
        context = container["securityContext"]
        assert context == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {mount["mountPath"] for mount in container["volumeMounts"]} >= WRITTEN
        has = container["resources"]
        assert has["requests"].keys() == has["limits"].keys() >= {"cpu", "memory"}
        assert has["requests"]["memory"] == has["limits"]["memory"]


def policies() -> list[Resource]:
    return [one for one in resources() if one["kind"] == "NetworkPolicy"]


def labels() -> list[dict[str, str]]:
    """The labels of each pod; the operator gives labels to the pods of the RayCluster."""
    own = [t.get("metadata", {}).get("labels") for r in resources() for t in pod_templates(r)]
    return [*filter(None, own), *RAY_LABELS]


def reached_from(pod: dict[str, str]) -> list[tuple[dict[str, str], Any]]:
    """Selectors of the pods that a pod may send to, and the first port; {} is an address."""
    return [
        (to.get("podSelector", {}).get("matchLabels", {}), rule.get("ports", [{}])[0].get("port"))
        for policy in policies()
        if policy["spec"]["podSelector"]["matchLabels"].items() <= pod.items()
        for rule in policy["spec"].get("egress", [])
        for to in rule["to"]
    ]


def test_each_pod_sends_to_what_it_needs_and_nothing_else() -> None:
    pods = labels()
    assert len(pods) == 4
    for pod in pods:
        selecting = [
            policy["spec"]["policyTypes"]
            for policy in policies()
            if policy["spec"]["podSelector"]["matchLabels"].items() <= pod.items()
        ]
        # What no policy selects, in one direction, is open.
        assert {kind for kinds in selecting for kind in kinds} == {"Ingress", "Egress"}, pod
    mlflow, submitter, head, worker = pods
    names, https, api = (NAMES[0], 53), ({}, 443), ({}, 6443)
    ray = ({"ray.io/cluster": "iresnet-study"}, None)

    def sends_to(pod: dict[str, str]) -> list[tuple[dict[str, str], Any]]:
        found = reached_from(pod)
        return [one for n, one in enumerate(found) if one not in found[:n]]

    assert sends_to(mlflow) == [names, https]
    assert sends_to(worker) == [ray, names, https]
    assert sends_to(head) == [ray, names, https, (mlflow, "http"), api]
    assert sends_to(submitter) == [(head, "dashboard"), names]
    # Nobody asks the node's metadata for the keys of the node.
    metadata = [ip_address(at) for at in ("169.254.169.254", "fd00:ec2::254")]
    blocks = [mapping for _, mapping in mappings(resources()) if "cidr" in mapping]
    for block, address in product(blocks, metadata):
        if address in ip_network(block["cidr"]):
            assert any(address in ip_network(net) for net in block["except"])


def test_workers_have_keys_of_their_own_for_the_bucket() -> None:
    head, worker = ray_pods()
    mlflow = resource("Deployment", "iresnet-study-mlflow")["spec"]["template"]["spec"]
    accounts = [pod["serviceAccountName"] for pod in (head, worker, mlflow)]
    assert len(set(accounts)) == 3

    def secrets_of(pod: Resource) -> set[str]:
        refs = [
            m[key] for _, m in mappings(pod) for key in ("secretRef", "secretKeyRef") if key in m
        ]
        return {ref["name"] for ref in refs}

    assert secrets_of(worker) == {"iresnet-study-storage-worker"}
    assert not secrets_of(worker) & (secrets_of(head) | secrets_of(mlflow))


def test_network_policies_speak_of_pods_that_are_there() -> None:
    for policy in policies():
        selectors = [m["matchLabels"] for _, m in mappings(policy) if "matchLabels" in m]
        assert selectors
        for selector in selectors:
            assert any(selector.items() <= of.items() for of in (*labels(), OPERATOR, *NAMES))


def test_the_image_has_what_the_machines_of_cluster_yaml_get() -> None:
    config = real()
    dockerfile = (FOLDER / "Dockerfile").read_text()
    copied = dict(re.findall(r"^COPY (\S+) /opt/iresnet-study/(\S+)$", dockerfile, re.MULTILINE))
    mounted = set(config["file_mounts"].values()) - {"~/.ray/auth_token"}
    assert copied.pop(".cluster/requirements.lock") == ".cluster/"
    assert {source: source for source in mounted - {".cluster"}} == copied
    setup = "\n".join(config["setup_commands"])
    (python,) = re.findall(r"--python (3\.\d+)", setup)
    assert re.search(rf"^FROM python:{re.escape(python)}\.\d+-slim", dockerfile, re.MULTILINE)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert let_in == {*copied, ".cluster/requirements.lock"}
    users = {str(m["runAsUser"]) for _, m in mappings(resources()) if "runAsUser" in m}
    named = re.findall(r"^USER (\d+)$|--uid (\d+)", dockerfile, re.MULTILINE)
    assert len(named) == 2
    assert {user or uid for user, uid in named} == users
    assert len(users) == 1


def test_it_holds_no_secret() -> None:
    assert not [one for one in resources() if one["kind"] == "Secret"]
    assert not re.search(r"AKIA[0-9A-Z]{16}", TEXT)
    secrets = [
        m
        for _, m in mappings(resources())
        if "PASSWORD" in m.get("name", "") or "SECRET" in m.get("name", "")
    ]
    assert len(secrets) == 3
    assert all("value" not in variable for variable in secrets)
