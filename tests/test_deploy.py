"""What is deployed: the chart, the plain manifests, the units and the image, checked as far as one machine can."""

from __future__ import annotations

import configparser
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deploy_image as image
import pytest
import yaml

from twisted_rr.build import read_config
from twisted_rr.lifecycle.budget import Budget, plan
from twisted_rr.lifecycle.load_balancers import PRESETS
from twisted_rr.lifecycle.settings import DrainSettings

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "twisted-rr"
PLAIN = DEPLOY / "kubernetes"
UNITS = DEPLOY / "systemd"

#: The oldest and the newest API whose schemas the manifests have to fit, as far as the package knows them.
OLDEST_API = "1.25"

#: What only a chart's rendering has.
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")


def values() -> Any:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def by_kind(documents: Any) -> dict[str, Any]:
    return {document["kind"]: document for document in documents if document}


@functools.cache
def _plain() -> str:
    return "\n---\n".join(path.read_text() for path in sorted(PLAIN.glob("*.yaml")))


def plain() -> dict[str, Any]:
    """The plain manifests by kind."""
    return by_kind(yaml.safe_load_all(_plain()))


def container(documents: dict[str, Any]) -> Any:
    (only,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only


def helm() -> str:
    """The program; skips without it."""
    found = (
        os.environ.get("HELM") or shutil.which("helm") or shutil.which("helm", path=Path.home() / "go/bin")
    )
    if not found:
        pytest.skip("no helm: go install helm.sh/helm/v3/cmd/helm@latest, or name it in HELM; NOT rendered")
    return found


def template(*settings: str, api: str = "1.31.0") -> subprocess.CompletedProcess[str]:
    words = [word for setting in settings for word in ("--set", setting)]
    command = [helm(), "template", "twisted-rr", str(CHART), "--kube-version", api, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def render(*settings: str, api: str = "1.31.0") -> dict[str, Any]:
    """The chart's documents by kind."""
    done = template(*settings, api=api)
    assert done.returncode == 0, done.stderr
    return by_kind(yaml.safe_load_all(done.stdout))


def refused(*settings: str) -> str:
    """Why the chart cannot be rendered with these settings."""
    done = template(*settings)
    assert done.returncode != 0, done.stdout
    return done.stderr


def check_schemas(documents: dict[str, Any]) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed; NOT checked"
    )
    for api in (OLDEST_API, validate.latest_version()):
        for kind, document in documents.items():
            # The operator's own kind is in nobody's schema but its own.
            if kind != "ServiceMonitor":
                validate.validate(document, api, strict=True)


# ------------------------------------------------------------------------------------ plain manifests


def test_the_plain_manifests_fit_the_oldest_and_the_newest_schema() -> None:
    assert set(plain()) == {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"}
    check_schemas(plain())


def test_a_mistake_in_a_manifest_would_be_found() -> None:
    broken = plain()
    container(broken)["readinessProbe"]["periodSecond"] = 2
    with pytest.raises(Exception, match="periodSecond"):
        check_schemas(broken)


def test_the_grace_period_and_what_the_server_is_told_are_one_number() -> None:
    pod = plain()["Deployment"]["spec"]["template"]["spec"]
    (told,) = [each for each in container(plain())["env"] if each["name"] == "RR_TERMINATION_GRACE_PERIOD"]
    assert str(pod["terminationGracePeriodSeconds"]) == told["value"] == "60"


def pod_budget(documents: dict[str, Any]) -> tuple[Budget, list[str]]:
    """What the server makes of the pod's environment and configuration."""
    config = read_config(yaml.safe_load(documents["ConfigMap"]["data"][".rr.yaml"]), environ={})
    environ = {each["name"]: each["value"] for each in container(documents)["env"]}
    environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    return plan(config.settings("drain") or DrainSettings(), config.settings("endure"), environ)


def test_the_server_of_the_manifests_ends_before_its_pod_is_killed() -> None:
    budget, warnings = pod_budget(plain())
    pod = plain()["Deployment"]["spec"]["template"]["spec"]
    assert budget.total < pod["terminationGracePeriodSeconds"]
    assert warnings == []


def test_the_picture_and_the_page_have_the_numbers_of_the_manifests() -> None:
    budget, _ = pod_budget(plain())
    picture = (ROOT / "docs" / "_static" / "kubernetes-timeline.svg").read_text()
    assert (budget.announce_min, budget.announce_max) == (2, 5)
    for text in ("2 to 5 s", f"{budget.cut:g} s", f"{budget.total:g} s", "60 s"):
        assert f">{text}<" in picture
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert f"| {budget.cut:g} s |" in page and f"| by {budget.total:g} s |" in page


def advice() -> list[tuple[str, str]]:
    """The page's table of load balancers: preset and grace period of each row."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    return re.findall(r"^\| [^|]+ \| `([a-z-]+)` \| (\d+) s \|", page, re.M)


def test_the_page_advises_on_every_preset() -> None:
    assert {name for name, _ in advice()} == set(PRESETS) - {"none"}


@pytest.mark.parametrize(("preset", "grace"), sorted(set(advice())))
def test_the_grace_period_that_the_page_advises_has_room_for_its_preset(preset: str, grace: str) -> None:
    config = read_config({"version": "3", "drain": {"lb": preset}}, environ={})
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "RR_TERMINATION_GRACE_PERIOD": grace}
    budget, warnings = plan(config.settings("drain"), config.settings("endure"), environ)
    assert warnings == []
    assert budget.announce_max == PRESETS[preset].announce_max


def test_each_probe_asks_its_own_question_on_the_status_port() -> None:
    served = container(plain())
    probes = {name: served[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert paths == {"startup": "/startup", "readiness": "/ready", "liveness": "/health"}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"status"}
    ready, live = probes["readiness"], probes["liveness"]
    assert (ready["periodSeconds"], ready["failureThreshold"]) == (2, 1)
    assert (live["periodSeconds"], live["timeoutSeconds"], live["failureThreshold"]) == (10, 3, 3)


def test_there_is_no_pre_stop() -> None:
    assert "lifecycle" not in container(plain())


def test_the_pod_runs_with_nothing_it_does_not_need() -> None:
    pod = plain()["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container(plain())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount for mount in container(plain())["volumeMounts"] if not mount.get("readOnly")]
    assert [mount["mountPath"] for mount in writable] == ["/tmp"]
    assert [list(volume)[1] for volume in pod["volumes"] if volume["name"] == "tmp"] == ["emptyDir"]


def test_the_pod_has_the_user_of_the_image() -> None:
    security = plain()["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == image.instruction("USER")


def test_ports_are_those_of_the_configuration() -> None:
    config = yaml.safe_load(plain()["ConfigMap"]["data"][".rr.yaml"])
    ports = {port["name"]: port["containerPort"] for port in container(plain())["ports"]}
    assert ports == {name: int(config[name]["address"].rpartition(":")[2]) for name in ("http", "status")}
    (http,) = plain()["Service"]["spec"]["ports"]
    assert http["targetPort"] == "http"


def test_selectors_find_the_pods() -> None:
    labels = plain()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        plain()["Service"]["spec"]["selector"],
        plain()["Deployment"]["spec"]["selector"]["matchLabels"],
        plain()["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector and selector.items() <= labels.items()


# ---------------------------------------------------------------------------------- values, without helm


def test_the_values_fit_their_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values(), schema)


def test_the_schema_knows_exactly_the_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(values())


def test_the_values_are_those_of_the_plain_manifests() -> None:
    told, documents = values(), plain()
    deployment, served = documents["Deployment"]["spec"], container(documents)
    pod = deployment["template"]["spec"]
    assert yaml.safe_load(documents["ConfigMap"]["data"][".rr.yaml"]) == told["config"]
    assert deployment["replicas"] == told["replicaCount"]
    assert deployment["strategy"] == told["strategy"]
    assert pod["terminationGracePeriodSeconds"] == told["terminationGracePeriodSeconds"]
    assert pod["securityContext"] == told["podSecurityContext"]
    assert served["securityContext"] == told["securityContext"]
    assert served["resources"] == told["resources"]
    assert told["probes"].pop("protocol") == "http"
    for name, probe in told["probes"].items():
        assert probe.items() <= served[f"{name}Probe"].items()


def test_the_chart_serves_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(
        r'__version__ = "([0-9.]+?)(?:\.dev\d+)?"', (ROOT / "twisted_rr/__init__.py").read_text()
    )
    assert version and chart["appVersion"] == version.group(1)
    assert container(plain())["image"].endswith(f":{chart['appVersion']}")


# -------------------------------------------------------------------------------------- the chart, by helm


def without_helm(document: Any) -> Any:
    """The rendering without what helm alone needs; configuration texts as data."""
    metadata = document["metadata"]
    for label in HELM_LABELS:
        del metadata["labels"][label]
    if document["kind"] == "ConfigMap":
        document["data"] = {name: yaml.safe_load(text) for name, text in document["data"].items()}
    if document["kind"] == "Deployment":
        template_metadata = document["spec"]["template"]["metadata"]
        assert re.fullmatch("[0-9a-f]{64}", template_metadata.pop("annotations")["checksum/config"])
    return document


def test_the_plain_manifests_are_the_charts_default_rendering() -> None:
    rendered = {kind: without_helm(document) for kind, document in render().items()}
    expected = plain()
    expected["ConfigMap"]["data"] = {
        name: yaml.safe_load(text) for name, text in expected["ConfigMap"]["data"].items()
    }
    assert rendered == expected


def test_helm_finds_nothing_to_say() -> None:
    command = [helm(), "lint", "--strict", "--kube-version", "1.31.0", str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


EVERYTHING = (
    "preStop.seconds=5",
    "autoscaling.enabled=true",
    "autoscaling.queueWait.enabled=true",
    "metrics.serviceMonitor.enabled=true",
    "config.metrics.address=0.0.0.0:2112",
    "env[0].name=A,env[0].value=b",
    "envFrom[0].secretRef.name=s",
    "nodeSelector.a=b",
    "podAnnotations.a=b",
    "podLabels.c=d",
    "imagePullSecrets[0].name=s",
    "service.type=LoadBalancer",
    "service.annotations.a=b",
    "config.grpc.listen=tcp://0.0.0.0:9001",
)


def test_with_every_option_the_rendering_fits_the_schemas() -> None:
    documents = render(*EVERYTHING)
    assert {"HorizontalPodAutoscaler", "ServiceMonitor"} < set(documents)
    assert "replicas" not in documents["Deployment"]["spec"]
    # The oldest API has no sleep action: there it is a command.
    container(documents)["lifecycle"] = container(render(*EVERYTHING, api="1.29.0"))["lifecycle"]
    check_schemas(documents)


def test_a_new_grace_period_reaches_pod_and_server() -> None:
    documents = render("terminationGracePeriodSeconds=120")
    assert documents["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 120
    assert pod_budget(documents)[0].total == 116


def test_a_pre_stop_is_taken_from_what_the_server_is_told() -> None:
    documents = render("preStop.seconds=15")
    assert container(documents)["lifecycle"] == {"preStop": {"sleep": {"seconds": 15}}}
    assert pod_budget(documents)[0].platform_deadline == 45


def test_an_old_cluster_gets_the_pre_stop_as_a_command() -> None:
    served = container(render("preStop.seconds=15", api="1.29.0"))
    assert served["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "15"]}}}


def test_a_pre_stop_may_be_a_command() -> None:
    served = container(render("preStop.seconds=40", "preStop.command={twisted-rr,drain,--wait}"))
    assert served["lifecycle"] == {"preStop": {"exec": {"command": ["twisted-rr", "drain", "--wait"]}}}
    assert "preStop.command needs preStop.seconds" in refused("preStop.command={twisted-rr,drain,--wait}")


def test_a_pre_stop_that_leaves_no_time_is_refused() -> None:
    assert "the server needs at least 5 s" in refused("preStop.seconds=57")


def test_a_budget_that_the_pod_does_not_live_to_see_is_refused() -> None:
    assert "terminationGracePeriodSeconds leaves the server: leave it out" in refused(
        "config.endure.grace_period=60s"
    )
    assert "not below the 20 s" in refused("config.endure.grace_period=20s", "preStop.seconds=40")
    assert container(render("config.endure.grace_period=50s"))["env"][0]["value"] == "60"


@pytest.mark.parametrize("address", ["127.0.0.1:2114", "localhost:2114", "[::1]:2114"])
def test_a_port_that_nobody_outside_the_pod_reaches_is_refused(address: str) -> None:
    assert "write 0.0.0.0:2114" in refused(f"config.status.address={address}")
    assert "write 0.0.0.0:9001" in refused("config.grpc.listen=tcp://127.0.0.1:9001")


def test_the_servers_grace_period_cannot_be_set_apart_from_the_pods() -> None:
    assert "/env/0/name" in refused("env[0].name=RR_TERMINATION_GRACE_PERIOD", "env[0].value=9")


def test_a_mistyped_value_is_refused() -> None:
    assert "replicas" in refused("replicas=3")


def test_a_service_monitor_of_nothing_is_refused() -> None:
    assert "config.metrics.address" in refused("metrics.serviceMonitor.enabled=true")


def test_a_change_of_the_configuration_rolls_the_pods() -> None:
    def checksum(*settings: str) -> str:
        metadata = render(*settings)["Deployment"]["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/config"])

    assert checksum() == checksum("replicaCount=5")
    assert checksum() != checksum("config.http.pool.num_workers=3")


#: A pod that serves gRPC and nothing else, and is asked by gRPC.
GRPC = ("config.http=null", "config.grpc.listen=tcp://0.0.0.0:9001", "probes.protocol=grpc")


def test_grpc_probes_ask_the_grpc_port_for_their_own_service() -> None:
    documents = render(*GRPC)
    check_schemas(documents)
    served = container(documents)
    for name in ("startup", "readiness", "liveness"):
        probe = served[f"{name}Probe"]
        assert probe["grpc"] == {"port": 9001, "service": name}
        assert "httpGet" not in probe
        assert values()["probes"][name].items() <= probe.items()


def test_a_pod_of_grpc_alone_has_no_http_port() -> None:
    documents = render(*GRPC, "service.grpcPort=443")
    ports = {port["name"]: port["containerPort"] for port in container(documents)["ports"]}
    assert ports == {"grpc": 9001, "status": 2114}
    assert documents["Service"]["spec"]["ports"] == [
        {"name": "grpc", "port": 443, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"}
    ]
    read_config(yaml.safe_load(documents["ConfigMap"]["data"][".rr.yaml"]), environ={})


def test_a_pod_may_serve_both() -> None:
    documents = render(GRPC[1])
    check_schemas(documents)
    assert [port["name"] for port in documents["Service"]["spec"]["ports"]] == ["http", "grpc"]
    assert container(documents)["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "status"}


def test_grpc_over_tls_is_not_told_to_be_cleartext() -> None:
    documents = render(GRPC[1], "config.grpc.tls.cert=/c", "config.grpc.tls.key=/k")
    assert "appProtocol" not in documents["Service"]["spec"]["ports"][1]


def test_grpc_probes_without_what_they_ask_are_refused() -> None:
    assert "config.grpc.listen" in refused("probes.protocol=grpc")
    assert "without TLS" in refused(*GRPC, "config.grpc.tls.cert=/c", "config.grpc.tls.key=/k")
    assert "protocol" in refused("probes.protocol=tcp")


def test_a_pod_that_serves_nothing_is_refused() -> None:
    assert "config" in refused("config.http=null")


def test_the_autoscaler_can_go_by_the_wait_for_a_worker_alone() -> None:
    documents = render(
        "autoscaling.enabled=true",
        "autoscaling.queueWait.enabled=true",
        "autoscaling.targetCPUUtilizationPercentage=0",
    )
    (metric,) = documents["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "rr_http_queue_wait_seconds"


# -------------------------------------------------------------------------------------------- systemd


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser


SERVICES = ("twisted-rr.service", "twisted-rr@.service")


@pytest.mark.parametrize("name", SERVICES)
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze: the units are NOT verified")
    for path in UNITS.glob("twisted-rr*"):
        # Where the server will be installed nothing is here.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.M)
        (tmp_path / path.name.replace("@.", "@shop.")).write_text(text)
    files = [name.replace("@.", "@shop."), "twisted-rr.socket"]
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    command = [program, "verify", "--man=no", *files]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_the_units_expose_little(name: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze: the units' exposure is NOT judged")
    (tmp_path / "judged.service").write_text((UNITS / name).read_text())
    command = [program, "security", "--offline=true", "--threshold=20", "./judged.service"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_the_unit_gives_the_server_more_time_than_it_takes(name: str) -> None:
    service = dict(unit(name)["Service"])
    variable, _, told = service["Environment"].partition("=")
    assert (variable, told) == ("RR_TERMINATION_GRACE_PERIOD", service["TimeoutStopSec"])
    config = read_config({"version": "3"}, environ={})
    budget, warnings = plan(DrainSettings(), config.settings("endure"), {variable: told})
    assert budget.total < float(service["TimeoutStopSec"])
    assert warnings == []


@pytest.mark.parametrize("name", SERVICES)
def test_the_unit_signals_the_server_alone_and_takes_its_outcomes_for_ends(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
    assert service["SuccessExitStatus"].split() == ["3", "4", "5"]
    assert service["Restart"] == "on-failure"


def test_the_template_differs_from_the_unit_in_names_only() -> None:
    def settings(name: str) -> dict[str, str]:
        lines = (UNITS / name).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    one, many = settings(SERVICES[0]), settings(SERVICES[1])
    assert set(one) == set(many)
    changed = {key for key in one if one[key] != many[key]}
    assert changed == {"Description", "ExecStart", "RuntimeDirectory", "StateDirectory", "WorkingDirectory"}
    assert all("%i" in many[key] for key in changed)


def test_the_socket_is_named_after_the_section_it_is_for() -> None:
    assert unit("twisted-rr.socket")["Socket"]["FileDescriptorName"] == "http"


@pytest.mark.integration
def test_a_server_started_by_the_unit_tells_ready_feeds_the_watchdog_and_tells_its_stop(
    tmp_path: Path,
) -> None:
    """The unit's command and environment, with a socket of ours in systemd's place."""
    service = unit("twisted-rr.service")["Service"]
    (tmp_path / "app.py").write_text((ROOT / "examples" / "hello" / "app.py").read_text())
    config = {
        "version": "3",
        "server": {"command": [sys.executable, "-m", "twisted_rr.worker", "app:application"]},
        "http": {"address": "127.0.0.1:0", "pool": {"num_workers": 1}},
        "status": {"address": "127.0.0.1:0"},
    }
    (tmp_path / "rr.yaml").write_text(yaml.safe_dump(config))
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(30)
    words = service["ExecStart"].replace("/etc/twisted-rr/.rr.yaml", str(tmp_path / "rr.yaml")).split()[1:]
    variable, _, told = service["Environment"].partition("=")
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "200000",
        "RUNTIME_DIRECTORY": str(tmp_path),
        variable: told,
    }
    started = subprocess.Popen(
        [sys.executable, "-c", "from twisted_rr.cli.entry import main; main()", *words],
        env={**os.environ, **environ},
        stderr=subprocess.DEVNULL,
    )

    def until(line: str) -> set[str]:
        heard: set[str] = set()
        while line not in heard:
            heard.update(manager.recv(4096).decode().split("\n"))
        return heard

    try:
        assert "STOPPING=1" not in until("READY=1")
        for _ in range(3):
            until("WATCHDOG=1")
        started.send_signal(signal.SIGTERM)
        until("STOPPING=1")
        assert started.wait(20) == 0
    finally:
        started.kill()
        started.wait()
        manager.close()


# ------------------------------------------------------------------------------------------ the image


def test_the_dockerfile_copies_only_what_is_sent_to_it() -> None:
    sent = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    text = (DEPLOY / "Dockerfile").read_text()
    copies = [
        line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    wanted = {source for sources in copies for source in sources}
    assert wanted
    for source in wanted:
        assert (ROOT / source).exists()
        assert any(source == each or source.startswith(f"{each}/") for each in sent), source


def test_the_image_stops_by_sigterm_as_a_number_not_as_root() -> None:
    assert image.instruction("STOPSIGNAL") == "SIGTERM"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.instruction("USER"))
    assert image.image_command()[0] == "twisted-rr"


def test_the_images_budget_fits_dockers_ten_seconds() -> None:
    config = read_config(DEPLOY / "image" / "rr.yaml", environ={})
    budget, warnings = plan(DrainSettings(), config.settings("endure"), image.image_environ())
    assert budget.total < 10
    assert warnings == []


@pytest.fixture(scope="module")
def built() -> Iterator[image.Image]:
    reason = image.why_not()
    if reason is not None:
        pytest.skip(f"the image's command is NOT run: {reason}")
    made = image.Image()
    yield made
    made.close()


@pytest.fixture
def running(built: image.Image) -> Iterator[image.Container]:
    started = image.Container(built, image.image_command())
    try:
        started.wait_for(2114, "/ready")
        yield started
    finally:
        started.end()


@pytest.mark.integration
def test_the_image_serves_read_only_as_its_user_without_capabilities(running: image.Container) -> None:
    status = dict(line.split(":\t", 1) for line in running.run(["cat", "/proc/1/status"]).stdout.splitlines())
    assert status["Uid"].split() == [image.instruction("USER").partition(":")[0]] * 4
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert "Read-only" in running.run(["touch", "/app/new"]).stderr
    assert running.get(8080, "/") == 200
    assert [running.get(2114, path) for path in ("/startup", "/ready", "/health")] == [200, 200, 200]


@pytest.mark.integration
def test_the_images_health_check_answers_in_time(running: image.Container) -> None:
    done = running.run(image.health_check())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration
def test_the_images_health_check_says_no_when_nobody_answers(running: image.Container) -> None:
    running.signal(signal.SIGSTOP)
    assert running.run(image.health_check()).returncode != 0


@pytest.mark.integration
def test_the_plugin_cache_was_written_when_the_image_was_made(running: image.Container) -> None:
    running.signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    log = running.end()
    assert "cache" not in log
    assert list(running.image.site.glob("twisted/plugins/dropin.cache"))


@pytest.mark.integration
def test_as_process_one_it_stops_by_sigterm_and_leaves_nobody(running: image.Container) -> None:
    workers = running.children()
    assert len(workers) >= 2
    running.signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert "drained" in running.end()


#: Asks /ready until it is 503; endpoints are still being removed then, so who comes has to be served.
ANNOUNCE = """
import http.client
def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    return connection.getresponse().status
print("before", ask(2114, "/ready"), flush=True)
while ask(2114, "/ready") != 503:
    pass
print("ready 503")
print("http", ask(8080, "/"))
print("health", ask(2114, "/health"))
"""


@pytest.mark.integration
def test_the_pods_configuration_is_served_by_the_image(built: image.Image, tmp_path: Path) -> None:
    """The ConfigMap in place of the image's file, with the pod's arguments and environment."""
    served = container(plain())
    file = built.root / "etc" / "twisted-rr" / ".rr.yaml"
    before = file.read_text()
    file.write_text(plain()["ConfigMap"]["data"][".rr.yaml"])
    environ = {each["name"]: each["value"] for each in served["env"]}
    entry = image.image_command()[:1]
    started = image.Container(built, [*entry, *served["args"]], **environ, KUBERNETES_SERVICE_HOST="10.0.0.1")
    try:
        started.wait_for(2114, "/ready")
        ports = {port["name"]: port["containerPort"] for port in served["ports"]}
        for name in ("startup", "readiness", "liveness"):
            asked = served[f"{name}Probe"]["httpGet"]
            assert started.get(ports[asked["port"]], asked["path"]) == 200
        with started.begin(["python", "-c", ANNOUNCE]) as client:
            assert client.stdout and client.stdout.readline() == "before 200\n"
            started.signal(signal.SIGTERM)
            assert client.communicate(timeout=20)[0].splitlines() == ["ready 503", "http 200", "health 200"]
        assert started.process.wait(20) == 0
    finally:
        log = started.end()
        file.write_text(before)
    (begun,) = (record for record in map(json.loads, log.splitlines()) if "announce" in record)
    assert (begun["announce"], begun["total"]) == (5, 56)
