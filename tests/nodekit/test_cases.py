"""Files of real people, as they were published, and more of each kind; `cases/` holds them.

Lost if these fail: an entry that somebody wrote with care, a cause that is named right, a version that no rule knows.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nodekit.__main__ import main
from nodekit.commands import compat
from nodekit.commands import daemon_json as question
from nodekit.errors import NodeError
from nodekit.rules.docker import daemon_json
from nodekit.rules.docker.docker_matrix import verdict
from nodekit.rules.docker.docker_packages import upstream_version
from nodekit.rules.kata import kata_launchers
from nodekit.rules.proof.console import explain_docker
from policy import stack_policy

CASES = Path(__file__).resolve().parent / "cases"
SHIM = "/opt/kata/bin/containerd-shim-kata-v2"
TYPE = "io.containerd.kata.v2"


def entry(**values: object) -> str:
    """A daemon.json with the runtime `kata`."""
    return json.dumps({"runtimes": {"kata": values}})


KEPT = [
    (CASES / "shim-by-path.json").read_text(),
    entry(runtimeType=SHIM),
    entry(runtimeType="/usr/local/bin/containerd-shim-kata-qemu-v2", options={"ConfigPath": "/c.toml"}),
    entry(runtimeType="io.containerd.kata-clh.v2", options={"TypeUrl": "io.containerd.kata.v2.options", "ConfigPath": "/c.toml"}),
    entry(runtimeType=TYPE, options={"ConfigBody": "YQ=="}),
    entry(runtimeType=TYPE, path="", runtimeArgs=[]),
    "\ufeff" + entry(runtimeType=SHIM),
    entry(runtimeType=SHIM).replace("{", "{\r\n"),
]


@pytest.mark.parametrize("text", KEPT)
def test_an_entry_that_starts_kata_is_kept_to_the_byte(text: str) -> None:
    assert daemon_json.merge(text, "kata", None) == text


@pytest.mark.parametrize("key", ["ConfigPath", "configPath", "configpath", "CONFIGPATH"])
def test_the_file_is_known_by_each_name_that_dockerd_takes(key: str) -> None:
    """Lost if this fails: parameters beside another file than the one that Docker's containers get."""
    text = entry(runtimeType=TYPE, options={key: "/c.toml", "TypeUrl": "x"})
    assert daemon_json.config_path(text, "kata") == "/c.toml"
    assert [launcher.config_path for launcher in kata_launchers.docker(text)] == ["/c.toml"]
    assert daemon_json.merge(text, "kata", None) == text
    after = json.loads(daemon_json.merge(text, "kata", "/ours.toml"))["runtimes"]["kata"]["options"]
    assert after == {"TypeUrl": "x", "ConfigPath": "/ours.toml"}


@pytest.mark.parametrize("text", KEPT)
def test_a_config_path_goes_into_it_and_all_else_stays(text: str) -> None:
    before = json.loads(text.removeprefix("\ufeff"))["runtimes"]["kata"]
    after = json.loads(daemon_json.merge(text, "kata", "/ours.toml"))["runtimes"]["kata"]
    assert after == {**before, "options": {**before.get("options", {}), "ConfigPath": "/ours.toml"}}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"path": "/usr/bin/kata-runtime", "runtimeArgs": ["--kata-config", "/c"]}, {"runtimeType": TYPE}),
        ({"path": SHIM}, {"runtimeType": SHIM}),
        ({"path": SHIM, "options": {"ConfigPath": "/c"}}, {"runtimeType": SHIM, "options": {"ConfigPath": "/c"}}),
        (
            {"runtimeType": "io.containerd.runc.v2", "options": {"TypeUrl": "x"}},
            {"runtimeType": TYPE, "options": {"TypeUrl": "x"}},
        ),
        ({}, {"runtimeType": TYPE}),
        # Docker 20.10 starts the path; from 23.0 on dockerd refuses it beside a type.
        ({"path": "/usr/bin/kata-runtime", "runtimeType": TYPE}, {"runtimeType": TYPE}),
        (
            {"runtimeType": SHIM, "runtimeArgs": ["--debug"], "path": "/usr/bin/kata-runtime", "options": {"ConfigPath": "/c"}},
            {"runtimeType": SHIM, "options": {"ConfigPath": "/c"}},
        ),
    ],
)
def test_an_entry_that_starts_something_else_is_given_the_shim_and_keeps_its_options(
    values: dict[str, object], expected: dict[str, object]
) -> None:
    assert json.loads(daemon_json.merge(entry(**values), "kata", None))["runtimes"]["kata"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"runtimes": {"a": {"path": "a"}}, "runtimes": {"b": {"path": "b"}}}', "key 'runtimes' stands twice"),
        ('{"runtimes": {"a": {}, "a": {}}}', "key 'a' stands twice"),
        ('{"debug": true, // words\n "runtimes": {}}', "daemon.json is not what dockerd reads"),
        ('{"debug": true,}', "daemon.json is not what dockerd reads"),
        ('{"max": 1e999}', "too large a number"),
        ("[]", "top level"),
        ('{"a": "\\ud800"}', "surrogate"),
        ("[" * 100_000, "daemon.json is not what dockerd reads"),
    ],
)
def test_what_would_lose_something_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(NodeError, match=message) as caught:
        daemon_json.merge(text, "kata", None)
    assert caught.value.code == "file-invalid"


def test_daemon_json_prints_what_the_node_would_write_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{\n\t"debug": true,\n\t"caf\u00e9": "\u202e"\n}\n')
    assert main(["daemon-json", str(file)]) == 0
    assert capsys.readouterr().out == daemon_json.merge(file.read_text(), "kata", None)
    assert file.read_text() == '{\n\t"debug": true,\n\t"caf\u00e9": "\u202e"\n}\n'
    assert main(["daemon-json", str(CASES / "shim-by-path.json")]) == 0
    assert capsys.readouterr().out == (CASES / "shim-by-path.json").read_text()
    assert main(["daemon-json", str(tmp_path / "none.json"), "--runtime", "k", "--config-path", "/c"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runtimes": {"k": {"runtimeType": TYPE, "options": {"ConfigPath": "/c"}}}}


def test_daemon_json_refuses_by_the_name_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    file.write_text("{,}")
    assert main(["daemon-json", str(file)]) == 1
    output = capsys.readouterr()
    assert output.out == "" and f"{file} is not what dockerd reads" in output.err and "[file-invalid]" in output.err
    assert "/etc/docker/daemon.json" not in output.err
    with pytest.raises(NodeError, match="not an absolute path"):
        question.run(Path("/"), file=str(file), runtime="kata", config_path="relative")


@pytest.mark.parametrize("key", daemon_json.CONFIG_PATH)
@pytest.mark.parametrize("before", [None, "/theirs.toml"])
def test_a_path_of_ours_goes_however_somebody_has_spelled_its_key(key: str, before: str | None) -> None:
    text = entry(runtimeType=TYPE, options={key: "/ours.toml", "Other": 1})
    merged = daemon_json.merge(text, "kata", None, ["/ours.toml"], before)
    expected = {"Other": 1} if before is None else {"Other": 1, "ConfigPath": before}
    assert json.loads(merged)["runtimes"]["kata"]["options"] == expected


def test_daemon_json_asks_dockerd_as_its_unit_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dockerd does not start with an address both in its unit and in its file."""
    questions: list[list[str]] = []
    monkeypatch.setattr(question.docker, "refuse_invalid", lambda text, options: questions.append(list(options)))
    for path, text in {
        "lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --iptables=false\n",
        "etc/systemd/system/docker.service.d/10-mine.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H fd://\n",
        "srv/daemon.json": '{"hosts": ["unix:///run/docker.sock"]}',
        "srv/other.json": "{}",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "etc/docker").mkdir()
    (tmp_path / "etc/docker/daemon.json").symlink_to("/srv/daemon.json")
    for file in ("/etc/docker/daemon.json", "/srv/daemon.json", "/srv/other.json"):
        question.run(tmp_path, file=file, runtime="kata", config_path=None)
    assert questions == [["-H", "fd://"], ["-H", "fd://"], []]


@pytest.mark.parametrize("verb", ["daemon-json", "apt-sources", "compat"])
def test_help_teaches_the_options(verb: str) -> None:
    argv = [sys.executable, "-m", "nodekit", verb, "--help"]
    result = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=CASES.parents[2])
    assert "--root" in result.stdout and "default" in result.stdout and "--json" in result.stdout


PULLED = (CASES / "pulled-then-msr.txt").read_text().partition("docker: ")[0]
BEFORE = "ended before the ladder"
PULLING = "Unable to find image 'debian:13-slim' locally\n13-slim: Pulling from library/debian\n"
ERROR = "docker: Error response from daemon: "
API = "failed to connect to the docker API at unix:///run/docker.sock"
"""Docker 29's words."""


@pytest.mark.parametrize(
    ("stderr", "cause"),
    [
        ((CASES / "pulled-then-msr.txt").read_text(), "this node's KVM"),
        (f"{PULLED}{ERROR}something nobody has met", "the container ended before the ladder"),
        (f"{PULLING}{ERROR}failed to create task for container: failed to create shim task: odd: unknown", BEFORE),
        (f"{PULLING}0123456789ab: Pull complete\nDigest: sha256:00\n{ERROR}OCI runtime create failed: odd", BEFORE),
        (f"{PULLED}{ERROR}failed to set up container networking: driver failed", BEFORE),
        (f"{PULLED}{ERROR}unknown or invalid runtime name: kata", "does not know the runtime"),
        (f"{PULLED}{ERROR}write /var/lib/docker/x: no space left on device", "disk is full"),
        (f"{PULLING}{ERROR}toomanyrequests: You have reached your pull rate limit", "rate limit for this node is reached"),
        (f"{PULLING}{ERROR}no matching manifest for linux/arm64/v8 in the manifest list entries", "architecture"),
        (f"{PULLING}{ERROR}Get \"https://r/v2/\": x509: certificate has expired", "could not be pulled"),
        (f"{PULLING}{ERROR}Get \"https://r/v2/\": dial tcp: lookup r: no such host", "could not be pulled"),
        ("docker: Cannot connect to the Docker daemon at unix:///run/docker.sock. Is it running?", "dockerd does not answer"),
        (f"docker: {API}; check if the path is correct and if the daemon is running: dial unix", "dockerd does not answer"),
        (f"{API}: dial unix /run/docker.sock: connect: connection refused", "dockerd does not answer"),
        (f"{ERROR}Unknown runtime specified kata.\nSee 'docker run --help'.", "does not know the runtime"),
        ("docker: permission denied while trying to connect to the Docker daemon socket", "dockerd does not answer"),
    ],
)  # fmt: skip
def test_dockers_error_is_named_by_what_failed_and_not_by_the_pull_before_it(stderr: str, cause: str) -> None:
    explained = explain_docker(stderr)
    assert cause in explained.cause, explained
    assert ("could not be pulled" in explained.cause) == (cause == "could not be pulled")


@pytest.mark.parametrize(
    ("package", "docker"),
    [
        ("5:27.5.1-1~debian.13~trixie", "27.5.1"),
        ("5:28.5.2-1~ubuntu.22.04~jammy", "28.5.2"),
        ("5:20.10.24~3-0~ubuntu-jammy", "20.10.24"),
        ("5:28.0.0~rc.1-1~ubuntu.24.04~noble", "28.0.0-rc.1"),
        ("20.10.24+dfsg1-1+b3", "20.10.24+dfsg1"),
        ("27.5.1-0ubuntu3~24.04.2", "27.5.1"),
        ("27.0.3+azure-ubuntu22.04u1", "27.0.3+azure"),
    ],
)
def test_a_packages_version_is_dockers_own(package: str, docker: str) -> None:
    assert upstream_version(package) == docker
    for text in (package, docker):
        assert verdict(text, "3.32.0", "go").reason


@pytest.mark.parametrize(
    ("docker", "kata", "ok", "words"),
    [
        ("5:20.10.24~3-0~ubuntu-jammy", "3.2.0-rc0", True, "untested"),
        ("27.5.1", "3.2.0-rc0", True, "works"),
        ("28.0.0-rc.1", "3.28.0", False, "scans it before"),
        ("28.5.2", "3.29.0-rc0", False, "3.29.0 or newer"),
        ("28.5.2", "3.29.0-alpha1", False, "3.29.0 or newer"),
        ("28.5.2", "3.30.0-rc0", True, "works"),
        ("28.5.2+build-1", "3.29.0", True, "works"),
    ],
)
def test_candidates_and_epochs_are_versions(docker: str, kata: str, ok: bool, words: str) -> None:
    result = verdict(docker, kata, "go")
    assert result.ok == ok and words in f"{result.reason} {result.cure}"


@pytest.mark.parametrize("package", ["5:28.5.2-1~ubuntu.22.04~jammy", "5:20.10.24~3-0~ubuntu-jammy"])
@pytest.mark.parametrize("name", ["docker-ce", "docker.io", "moby-engine"])
def test_compat_takes_what_a_real_node_reports(tmp_path: Path, package: str, name: str) -> None:
    for path, text in {
        "etc/os-release": 'ID=ubuntu\nVERSION_ID="22.04"\n',
        "opt/kata/VERSION": "3.2.0-rc0\n",
        "var/lib/dpkg/status": (
            f"Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: admin\nMaintainer: x\n"
            f"Architecture: amd64\nVersion: {package}\nDescription: x\n\n"
        ),
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    arguments = {"docker": None, "kata": None, "runtime": "go"}
    if "28.5.2" in package:
        with pytest.raises(NodeError, match=r"Kata 3\.2\.0-rc0") as caught:
            compat.run(tmp_path, **arguments)
        assert caught.value.code == "docker-kata-incompatible"
    else:
        assert "untested" in str(compat.run(tmp_path, **arguments)["reason"])


@pytest.mark.parametrize(
    "text", ["27.5.1-", "27.5.1 -1", "27.5", "a:27.5.1", "5:", "27.5.1~\x1b[31m", "27.5.1-" + "x" * 200, "v27.5.1"]
)
def test_what_no_system_reports_is_refused(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        verdict(text, "3.32.0", "go")
    assert caught.value.code == "bad-input"


NAMES = [
    *(CASES / "names-of-secrets.txt").read_text().splitlines(),
    "kubectl get secrets -n kube-system bootstrap-token-07401b",
    "kubectl create secret generic db-credentials-2024 --from-file=/run/x1",
    "kubectl describe secret/k3s-serving-2",
    "helm upgrade x --set imagePullSecret=regcred-2024 --set tlsSecretName=tls-2024",
    "docker service create --secret db-password-2024 nginx:1.27",
    "docker build --secret id=npm-token-2,src=/run/secrets/npm2 .",
    "vault token lookup -accessor build-2024",
    "kubectl delete token-reviewer-7",
    "kubectl --token $TOKEN1 get pods",
    "gcloud secrets versions access latest --secret=my_secret_1",
    "docker build --secret=id=npmrc2,src=.npmrc .",
    "kubectl annotate pod x secret=team-a/db-1",
    "cat > x <<EOF\n- secretKey: db-password-2024\n  serviceAccountToken:\n    path: token2024\n  tokenTTL: 3600seconds1\nEOF",
    "cat > x <<EOF\npassword: vault:secret/data/app1#password\ntoken: ENC[AES256_GCM,data:x1y2z3]\npassword: op://vault1/item2/x\nEOF",
    "curl -u $USER1:$PASSWORD1 https://x1/y2345678",
    "curl --user admin: https://x1/y2345678",
    "docker login --password-stdin -u x registry2024.example",
    "sshpass -e ssh build-2024.example",
    'mount -o secret=ceph-secret.v2,name=x',
]  # fmt: skip
SECRETS = [
    "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef",
    "kubeadm token create abcdef.0123456789abcdef --ttl 1h",
    "docker login -u x --password hunter2hunter2 registry",
    "kubectl create secret generic x --from-literal=password=S3cretPass99",
    "helm upgrade x --set auth.token=abc123def456,db.password=Zx81zx81zx",
    "export CLIENT_SECRET=abc123def456",
    "K3S_TOKEN=K10abc12345678::server:0123 sh install.sh",
    "SECRET='8f3a9c2e1b7d4f60' ./run",
    "vault login --client-secret 'q1w2e3r4t5'",
    "az x --api-key=0123456789abcdef",
    "curl https://x.example/install?token=abcdef0123456789",
    "cat > /etc/x.yaml <<EOF\nauth:\n  password: S3cretPass99\nEOF",
    """printf '{"password":"S3cretPass99"}' > /etc/x.json""",
    "curl -sS -u admin:S3cretPass99 https://x.example",
    "curl --user=admin:S3cretPass99 https://x.example",
    "sshpass -p S3cretPass99 ssh x",
    "docker login -u x -p hunter2hunter2 registry",
]


@pytest.mark.parametrize("command", NAMES)
def test_a_name_is_no_secret_though_it_holds_a_digit(command: str) -> None:
    assert not stack_policy.plain_secrets("command:remote:Command", {"create": command}, {})


@pytest.mark.parametrize("command", SECRETS)
def test_a_secret_in_a_command_is_found(command: str) -> None:
    (error,) = stack_policy.plain_secrets("command:remote:Command", {"create": command}, {})
    assert error.code == "secret-on-command-line"
