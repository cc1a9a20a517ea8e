"""Real guests under QEMU's emulation: the one proof that a verdict is true of a kernel, and not only of a text.

What would be lost if these failed: a guest that reads 0 could pass, or a guest that never came up would stay unexplained.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from nodekit.commands import preflight, prove
from nodekit.errors import NodeError
from nodekit.host import guest, initramfs, proofs
from nodekit.host.guest import Plan, boot, boot_patiently, new_nonce
from nodekit.host.initramfs import cpio, folder, link, program
from nodekit.host.kata import effective
from nodekit.rules.proof.console import explain
from nodekit.rules.proof.ladder import Verdict, judge
from tests.nodekit.docker_node import Daemon
from tests.nodekit.kernel import find_kernel
from tests.serving import running

QEMU = "qemu-system-x86_64"
SECONDS = 60
pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(shutil.which(QEMU) is None, reason="needs qemu-system-x86_64"),
]
OURS = "console=ttyS0 quiet panic=1 reboot=k rdinit=/kata-nodes/init"


@pytest.fixture(scope="module")
def kernel() -> Path:
    return find_kernel()


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    before = children()
    yield
    assert children() == before, "a guest outlived its boot"


def children() -> set[str]:
    """Processes that this one started and that still run."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def plan(kernel: Path, append: str, **changes: object) -> tuple[Plan, str]:
    """A guest with our RAM disk, and its nonce."""
    nonce = new_nonce()
    base = Plan(QEMU, str(kernel), (initramfs.build(nonce),), None, append, 256, 1, f"{nonce} end")
    return base._replace(**changes), nonce  # type: ignore[arg-type]


def climb(kernel: Path, parameters: str, expected: list[str], sandbox: str = "sandbox-runtime") -> Verdict:
    """The verdict on a guest with these parameters."""
    nonce = new_nonce()
    guest, _ = plan(kernel, f"{parameters} {OURS}".strip(), initrd=(initramfs.build(nonce, sandbox=sandbox),), end=f"{nonce} end")
    result = boot(guest, accel="tcg", timeout=SECONDS)
    assert result.reached, result.console[-500:] + result.qemu_stderr
    return judge(result.console, nonce, Path("/proc/sys/kernel/random/boot_id").read_text().strip(), expected, sandbox=sandbox)


def climbed(verdict: Verdict) -> set[str]:
    """Names of the rungs that were tried and passed."""
    return {rung.name for rung in verdict.rungs if rung.passed is True}


def test_a_plain_guest_passes_and_the_seeds_parameter_is_inert(kernel: Path) -> None:
    plain, seeded = climb(kernel, "", []), climb(kernel, "user_namespace.enable=1", ["user_namespace.enable=1"])
    assert plain.passed and seeded.passed
    assert plain.user_namespaces > 0
    # The reading follows memory; KASLR and similar effects move it by a few.
    assert abs(seeded.user_namespaces - plain.user_namespaces) < 50
    assert climbed(seeded) >= {"unshare-nested", "loopback", "bwrap-proc", "srt-call", "srt-call-ordinary"}
    assert plain.guest_kernel == kernel.name.removeprefix("vmlinuz-")


def test_a_limit_of_zero_fails_whatever_the_seeds_parameter_says(kernel: Path) -> None:
    verdict = climb(kernel, "user_namespace.enable=1 sysctl.user.max_user_namespaces=0", [])
    assert verdict.code == "proof-user-namespaces-zero" and verdict.user_namespaces == 0
    assert "sysctl.user.max_user_namespaces=0 on the guest's command line" in verdict.message
    failed = {rung.name for rung in verdict.rungs if rung.passed is False}
    assert {"user-namespaces", "unshare", "unshare-map-root", "unshare-nested", "loopback"} <= failed


def test_a_limit_that_is_set_is_read_back(kernel: Path) -> None:
    assert climb(kernel, "sysctl.user.max_user_namespaces=0 sysctl.user.max_user_namespaces=777", []).user_namespaces == 777


ORDINARY_AFTER_ROOT = b"""#!/bin/sh
if [ -e /tmp/first ]; then
    [ "$(id -u) $(id -G)" = "1000 1000" ] || exit 9
    case $(cat /proc/self/status) in *CapPrm:?0000000000000000?CapEff:?0000000000000000?*) ;; *) exit 8 ;; esac
elif [ "$(id -u)" = 0 ]; then
    : >/tmp/first
fi
exec /usr/bin/bwrap.real "$@"
"""


def test_the_second_call_is_made_by_a_user_without_any_capability(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = initramfs.node_files("sandbox-runtime")
    wrapped = {**files, "usr/bin/bwrap.real": files["usr/bin/bwrap"], "usr/bin/bwrap": ORDINARY_AFTER_ROOT}
    monkeypatch.setattr(initramfs, "node_files", lambda sandbox: wrapped)
    assert climbed(climb(kernel, "", [])) >= {"srt-call", "srt-call-ordinary"}
    monkeypatch.setattr(initramfs, "ORDINARY", initramfs.ORDINARY.replace("1000", "0"))
    alone = climbed(climb(kernel, "", []))
    assert "srt-call" not in alone, "where the start changes nobody, each call is made by itself, and root's is refused"


def test_without_the_capabilities_limit_bubblewrap_fails_and_as_root_it_needs_none(kernel: Path) -> None:
    refused = climbed(climb(kernel, "sysctl.user.max_user_namespaces=0", []))
    assert "bwrap-proc" in refused and "bwrap-user" not in refused, "as uid 0 it uses capabilities"


def test_a_node_without_bubblewrap_has_not_tried_what_it_promised(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "brought", lambda sandbox: ("setpriv",))
    verdict = climb(kernel, "", [])
    assert verdict.code == "proof-tool-missing" and "bwrap is not installed" in verdict.message
    assert "bubblewrap" in verdict.remedy and "on the node" in verdict.remedy


@pytest.mark.skipif(shutil.which("runc") is None, reason="needs runc")
def test_a_container_of_rootless_runc_starts_in_the_guest(kernel: Path) -> None:
    assert "rootless-runc" in climbed(climb(kernel, "", [], "rootless"))


def test_a_node_without_runc_has_not_tried_rootless(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "brought", lambda sandbox: ("bwrap", "setpriv"))
    verdict = climb(kernel, "", [], "rootless")
    assert verdict.code == "proof-tool-missing" and "runc is not installed" in verdict.message and "runc" in verdict.remedy


def test_2047_bytes_boot_and_2048_hang_and_are_explained(kernel: Path) -> None:
    fits = f"{OURS} ".ljust(2047, "a")
    guest, _ = plan(kernel, fits)
    assert boot(guest, accel="tcg", timeout=SECONDS).reached
    longer = guest._replace(append=f"{fits}a")
    result, boots, why = boot_patiently(longer, accel="tcg", timeout=8, emulated=True)
    assert (result.reached, result.timed_out, boots) == (False, True, 1)
    assert why is not None and "2048 bytes" in why.cause and not why.retry


def test_a_guest_without_a_first_process_is_explained(kernel: Path) -> None:
    guest, _ = plan(kernel, "console=ttyS0 quiet panic=1 reboot=k rdinit=/nosuch")
    result = boot(guest, accel="tcg", timeout=SECONDS)
    assert not result.reached and not result.timed_out
    assert "found no first process" in explain(result.console, result.qemu_stderr, guest.append, timed_out=False).cause


def test_a_hang_is_tried_three_times_on_an_emulated_node_and_once_elsewhere(kernel: Path) -> None:
    silent = cpio(
        [folder("kata-nodes"), program("kata-nodes/busybox", initramfs.static_busybox()), program("kata-nodes/init", SLEEP)]
    )
    silent_guest, _ = plan(kernel, OURS, initrd=(silent,))
    for emulated, boots in ((True, guest.TRIES), (False, 1)):
        _, taken, why = boot_patiently(silent_guest, accel="tcg", timeout=1, emulated=emulated)
        assert taken == boots and why is not None and why.retry


EARLY = "[    2.651026] Kernel panic - not syncing: __kmem_cache_create_args: Failed to create slab 'sighand_cache'. Error -22"
"""Seen once in some hundreds of guests of an emulated node, on a busy machine; the same guest came up before and after."""


@pytest.mark.parametrize(
    ("console", "emulated", "boots"),
    [(EARLY, True, guest.TRIES), (EARLY, False, 1), (f"{EARLY}\ncgroup: Unknown subsys name 'cpuset'", True, 1)],
)
def test_a_panic_without_a_known_cause_is_tried_again_on_an_emulated_node_alone(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, console: str, emulated: bool, boots: int
) -> None:
    monkeypatch.setattr(guest, "boot", lambda *_, **__: guest.Boot(console, False, 3.0, "", False))
    _, taken, why = boot_patiently(plan(kernel, OURS)[0], accel="tcg", timeout=1, emulated=emulated)
    assert taken == boots and why is not None and ("sighand_cache" in why.cause) == why.panic


SLEEP = b"#!/kata-nodes/busybox sh\nexec /kata-nodes/busybox sleep 1000\n"


def test_a_guest_ends_with_the_program_that_started_it(kernel: Path) -> None:
    guest, _ = plan(kernel, OURS, initrd=(b"",))
    code = (
        "import sys; from nodekit.host.guest import Plan, boot\n"
        f"boot(Plan({QEMU!r}, {str(kernel)!r}, (), None, 'x'.ljust(2048), 256, 1, 'end'), accel='tcg', timeout=100)"
    )
    assert guest.qemu == QEMU
    program_ = subprocess.Popen(["python3", "-c", code], cwd=Path(__file__).resolve().parents[2])
    try:
        qemu = ""
        for _ in range(100):
            qemu = Path(f"/proc/{program_.pid}/task/{program_.pid}/children").read_text().strip()
            with suppress(OSError):  # a child that only asked something has ended
                if "qemu" in Path(f"/proc/{qemu}/comm").read_text():
                    break
            time.sleep(0.1)
        assert qemu
    finally:
        program_.kill()
        program_.wait()
    for _ in range(50):
        try:
            state = Path(f"/proc/{qemu}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail("QEMU outlived the program that started it")


# The verbs, with QEMU's emulation in KVM's place.


def kata_initrd() -> bytes:
    """An initrd of Kata's shape, whose first process mounts a cgroup that no kernel has, as after lost base parameters."""
    first = (
        b"#!/bin/busybox sh\n/bin/busybox mkdir /c\n/bin/busybox mount -t cgroup -o nosuch c /c\nexec /bin/busybox sleep 1000\n"
    )
    return cpio(
        [folder("bin"), program("bin/busybox", initramfs.static_busybox()), link("bin/sh", "busybox"), program("init", first)]
    )


@pytest.fixture
def node(tmp_path: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder with a Kata configuration, the kernel and an initrd; /proc is the machine's."""
    (tmp_path / "proc").symlink_to("/proc")
    files = tmp_path / "opt/kata"
    files.mkdir(parents=True)
    shutil.copy(kernel, files / "vmlinuz")
    (files / "initrd").write_bytes(kata_initrd())
    (files / "qemu").write_text(f'#!/bin/sh\nexec {shutil.which(QEMU)} "$@"\n')
    (files / "qemu").chmod(0o755)
    configure(tmp_path, "user_namespace.enable=1")
    monkeypatch.setattr(prove, "ACCELERATOR", "tcg")
    monkeypatch.setattr(preflight, "ACCELERATOR", "tcg")
    return tmp_path


def configure(root: Path, kernel_params: str) -> None:
    """Write Kata's configuration file."""
    path = root / "etc/kata-containers/configuration.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'[hypervisor.qemu]\npath = "/opt/kata/qemu"\nkernel = "/opt/kata/vmlinuz"\ninitrd = "/opt/kata/initrd"\n'
        f'default_memory = 256\ndefault_vcpus = 1\nkernel_params = "{kernel_params}"\nshared_fs = "none"\n'
    )


def desired(**changes: object) -> dict[str, object]:
    """The desired state of a proof."""
    return {
        "node": "n1",
        "hypervisor": "qemu",
        "runtime": "go",
        "configPath": None,
        "expect": ["user_namespace.enable=1"],
        "image": None,
        "timeoutSeconds": SECONDS,
        "sandbox": "sandbox-runtime",
        "digest": "d",
        **changes,
    }


def test_prove_boots_katas_guest_with_katas_initrd_and_reports_it(node: Path, kernel: Path) -> None:
    result = prove.run(desired(), node)
    assert (result["passed"], result["proven"], result["changed"], result["image"]) == (True, "guest", False, None)
    assert isinstance(result["userNamespaces"], int) and result["userNamespaces"] > 0
    assert result["guestKernel"] == kernel.name.removeprefix("vmlinuz-")
    assert "tsc=reliable" in str(result["commandLine"]) and str(result["commandLine"]).endswith("rdinit=/kata-nodes/init")
    assert result["kernelParams"] == "user_namespace.enable=1"
    assert result["configFile"] == "/etc/kata-containers/configuration.toml"
    assert "the guest boot alone was proven" in str(result["note"])


def test_prove_fails_with_one_sentence_that_says_all(node: Path) -> None:
    configure(node, "user_namespace.enable=1 sysctl.user.max_user_namespaces=0")
    with pytest.raises(NodeError) as caught:
        prove.run(desired(), node)
    assert caught.value.code == "proof-user-namespaces-zero"
    for word in ("n1", "user-namespaces", "'0'", "sysctl.user.max_user_namespaces=0", "kata.kernelParams"):
        assert word in caught.value.sentence()
    assert "\n" not in caught.value.sentence()


def test_a_node_keeps_its_proofs_the_failed_one_with_every_rung(node: Path) -> None:
    """Where a stack put the program; elsewhere the other tests of this module see nothing written."""
    (node / proofs.FOLDER.lstrip("/")).mkdir(parents=True)
    prove.run(desired(), node)
    (passed,) = proofs.kept(node)
    configure(node, "user_namespace.enable=1 sysctl.user.max_user_namespaces=0")
    with pytest.raises(NodeError):
        prove.run(desired(), node)
    earlier, failed = proofs.kept(node)
    assert earlier == {**passed, "climbs": []} and passed["passed"] is True and passed["error"] is None
    assert failed["passed"] is False and failed["userNamespaces"] == 0
    assert isinstance(failed["error"], dict) and failed["error"]["code"] == "proof-user-namespaces-zero"
    for proof in (passed, failed):
        assert isinstance(proof["climbs"], list) and isinstance(proof["seconds"], float)
        (climb,) = proof["climbs"]
        times = [rung["at"] for rung in climb["rungs"]]
        assert (
            climb["place"] == "booted guest"
            and len(times) > 15
            and 0 < min(times) <= max(times) < climb["seconds"] + 1
            and climb["seconds"] <= proof["seconds"] + 0.01
        )
    (rung,) = [rung for rung in failed["climbs"][0]["rungs"] if rung["name"] == "user-namespaces"]  # type: ignore[index]
    assert (rung["passed"], rung["value"]) == (False, "0")


def test_prove_without_a_nested_sandbox_reports_the_reading_and_does_not_judge_it(node: Path) -> None:
    configure(node, "sysctl.user.max_user_namespaces=0")
    result = prove.run(desired(sandbox=None, expect=["sysctl.user.max_user_namespaces=0"]), node)
    assert result["passed"] is True and result["userNamespaces"] == 0


def test_prove_names_a_parameter_that_never_arrived(node: Path) -> None:
    configure(node, "quiet")
    with pytest.raises(NodeError) as caught:
        prove.run(desired(), node)
    assert caught.value.code == "proof-parameters-missing" and "lacks user_namespace.enable=1" in caught.value.message
    assert "kernel_params is 'quiet', set by /etc/kata-containers/configuration.toml" in caught.value.message


FakeDocker = Callable[[dict[str, object], str], None]


# Plays a runtime on this machine's own kernel: behind the image stands `-c ENTRY NAME COMMAND…`; the entry is left out.
AS_ARGUMENT = 'while [ "$1" != -c ]; do case $1 in KATA_NODES_*=*) export "$1" ;; esac; shift; done; shift 3; exec "$@"'


class Daemon27(Daemon):
    """A dockerd 27.5.1; it reports only the name of a shim, as the real one does."""

    def answer(self, path: str) -> object:
        known = json.loads((self.root / "etc/docker/daemon.json").read_text())["runtimes"]
        return {"ServerVersion": "27.5.1", "Runtimes": {"runc": {}, **{name: {} for name in known}}}


def test_a_fault_that_the_runtime_reports_as_a_timeout_is_read_from_the_guests_own_console(
    node: Path, monkeypatch: pytest.MonkeyPatch, fake_docker: FakeDocker
) -> None:
    monkeypatch.setattr(prove, "OWN_BOOT_SECONDS", 8)
    script = "echo 'docker: failed: timed out connecting to vsock 7:1024' >&2; exit 125"
    fake_docker({"kata": {"runtimeType": "other"}}, script)
    with pytest.raises(NodeError) as caught:
        prove.run(desired(image="debian"), node)
    assert caught.value.code == "proof-base-parameters-lost"
    assert "Unknown subsys name 'nosuch'" in caught.value.message and "cgroup_no_v1=all" in caught.value.remedy


def test_a_guest_that_ends_before_its_agent_listens_is_named(
    node: Path, monkeypatch: pytest.MonkeyPatch, fake_docker: FakeDocker
) -> None:
    ended = guest.Boot("[ 9.1] reboot: Power down", False, 9.0, "", False)
    monkeypatch.setattr(prove, "guest_proof", lambda *_: (None, [], 1))
    monkeypatch.setattr(prove, "boot", lambda *_, **__: ended)
    monkeypatch.setattr(prove, "emulated", lambda: False)
    fake_docker({"kata": {}}, "echo 'docker: timed out connecting to vsock 7:1024' >&2; exit 125")
    with pytest.raises(NodeError) as caught:
        prove.run(desired(image="debian"), node)
    assert "ended by itself before Kata's agent listened" in caught.value.message and "vsock" in caught.value.remedy


GO_SHIM_LOG = """\
time="2026-11-30T16:17:15.143279928Z" level=error msg="Could not read qemu pid file" error="open /run/vc/vm/e9b6/pid: absent"
time="2026-11-30T16:17:16.086434095Z" level=error msg="qemu-system-x86_64: -chardev socket,id=char-9b5d,path=/run/vc/vm/e9b6/\
vhost-fs.sock: Failed to connect to '/run/vc/vm/e9b6/vhost-fs.sock': Connection refused" name=containerd-shim-v2 pid=4442
"""
"""What a genuine Kata 3.32.0 logged whose virtiofsd ended at once; its `docker run` never ended, nor did `docker rm`."""


@pytest.mark.parametrize(
    ("log", "words", "remedy"),
    [
        (GO_SHIM_LOG, "Could not read qemu pid file; qemu-system-x86_64: -chardev socket,id=char-9b5d", "journalctl -t kata"),
        ("failed to launch qemu\n", "failed to launch qemu", "journalctl -t kata"),  # as the Rust shim writes
        ("", "", "verification.timeoutSeconds"),
    ],
)
def test_a_container_without_an_end_has_the_cause_that_katas_log_names(
    node: Path, fake_docker: FakeDocker, log: str, words: str, remedy: str
) -> None:
    configuration = effective(node, runtime="go", hypervisor="qemu", config_path=None)
    proof = prove.Proof("n1", "qemu", "go", [], "sandbox-runtime", configuration, node)
    fake_docker({"kata": {}}, "exec sleep 60")
    (node / "kata.log").write_text(log)
    journalctl = node / "bin/journalctl"
    journalctl.write_text(f'#!/bin/sh\necho "$@" >>{node}/asked-journal\ncat {node}/kata.log\n')
    journalctl.chmod(0o755)
    before = int(time.time())
    with pytest.raises(NodeError) as caught:
        prove.started(proof, "0" * 32, "debian", False, 1.0)
    assert caught.value.code == "proof-container-failed" and "did not end within 1 s" in caught.value.message
    assert words in caught.value.message and remedy in caught.value.remedy
    argv = (node / "asked-journal").read_text().split()
    assert "--identifier=kata" in argv and 0 <= int(argv[-1].removeprefix("--since=@")) - before < 60


@pytest.fixture
def fake_docker(node: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDocker]:
    """Gives a docker whose daemon.json has these runtimes, whose `run` is that line of shell, and that writes down its calls."""
    with ExitStack() as stack:

        def make(runtimes: dict[str, object], run: str) -> None:
            (node / "etc/docker").mkdir(parents=True, exist_ok=True)
            (node / "etc/docker/daemon.json").write_text(json.dumps({"runtimes": runtimes}))
            (node / "run").mkdir(exist_ok=True)
            stack.enter_context(running(Daemon27(node)))
            place = node / "bin/docker"
            place.parent.mkdir(exist_ok=True)
            place.write_text(f'#!/bin/sh\necho "$@" >>{node}/asked\ncase "$*" in *\' run \'*) {run} ;; esac\n')
            place.chmod(0o755)
            monkeypatch.setenv("PATH", f"{place.parent}:{os.environ['PATH']}")

        yield make


def test_a_runtime_that_leads_to_runc_is_caught_as_no_guest(node: Path, fake_docker: FakeDocker) -> None:
    run = AS_ARGUMENT
    fake_docker({"kata": {"path": "runc"}}, run)
    with pytest.raises(NodeError) as caught:
        prove.run(desired(image="debian"), node)
    assert caught.value.code == "proof-not-a-guest"
    assert "container of runtime kata" in caught.value.message
    calls = (node / "asked").read_text().splitlines()
    assert "--cap-add NET_ADMIN --cap-add SYS_ADMIN debian -c " in calls[0] and " --runtime kata " in calls[0]
    assert not {"-i", "--interactive", "-it"} & set(calls[0].split()), "a genuine Go shim loses output with standard input"
    name = calls[0].split("--name ")[1].split()[0]
    assert calls[-1].endswith(f"rm --force --volumes {name}"), "the container is removed, whatever happened"


def installed(root: Path, *files: str) -> None:
    """Play a release that this program installed, of an archive with `files`, which are no longer there."""
    marker = root / "opt/kata/.kata-nodes.json"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"sha256": "0" * 64, "files": list(files)}))


@pytest.mark.parametrize("runtimes", [{}, {"kata": {"runtimeType": "io.containerd.kata.v2"}}])
def test_a_release_without_a_shim_has_its_guest_boot_alone_proven(
    node: Path, fake_docker: FakeDocker, runtimes: dict[str, object]
) -> None:
    installed(node)
    fake_docker(runtimes, "exit 1")
    result = prove.run(desired(), node)
    assert result["note"] == "no Kata shim on this node: the guest boot alone was proven"
    assert result["proven"] == "guest" and result["dockerVersion"] == "27.5.1"
    assert not (node / "asked").exists()


@pytest.mark.parametrize(
    ("files", "lacking", "remedy"),
    [
        ((), "no containerd-shim-kata-v2 is in /usr/local/sbin", "put its shim"),
        (("bin/containerd-shim-kata-v2",), "/opt/kata/bin/containerd-shim-kata-v2", "kata-nodes cure"),
    ],
)
def test_a_runtime_that_has_lost_its_shim_is_no_proven_node(
    node: Path, fake_docker: FakeDocker, files: tuple[str, ...], lacking: str, remedy: str
) -> None:
    """Seen with a genuine Kata: the guest's boot passed, and no container would have started."""
    if files:
        installed(node, *files)
    fake_docker({"kata": {"runtimeType": "io.containerd.kata.v2"}}, "exit 1")
    with pytest.raises(NodeError) as caught:
        prove.run(desired(), node)
    assert caught.value.code == "kata-not-found" and lacking in caught.value.message and remedy in caught.value.remedy


def test_a_container_whose_guest_is_silent_is_tried_again_on_an_emulated_node_alone(
    node: Path, monkeypatch: pytest.MonkeyPatch, fake_docker: FakeDocker
) -> None:
    monkeypatch.setattr(prove, "guest_proof", lambda *_: (None, [], 1))
    monkeypatch.setattr(prove, "own_console", lambda _: None)
    fake_docker({"kata": {}}, "echo 'docker: timed out connecting to vsock 7:1024' >&2; exit 125")
    for emulated, containers in ((True, guest.TRIES), (False, 1)):
        monkeypatch.setattr(prove, "emulated", lambda emulated=emulated: emulated)
        (node / "asked").unlink(missing_ok=True)
        with pytest.raises(NodeError) as caught:
            prove.run(desired(image="debian"), node)
        assert caught.value.code == "proof-container-failed"
        assert (node / "asked").read_text().count(" run --rm ") == containers


@pytest.mark.parametrize("runtimes", [{"kata": {"runtimeType": "io.containerd.kata.v2"}}, {}])
def test_a_container_that_was_asked_for_and_has_no_shim_is_a_failure(
    node: Path, fake_docker: FakeDocker, runtimes: dict[str, object]
) -> None:
    words = 'runtime "io.containerd.kata.v2" binary not installed "containerd-shim-kata-v2": file does not exist'
    fake_docker(runtimes, f"echo 'docker: Error response from daemon: {words}' >&2; exit 125")
    with pytest.raises(NodeError) as caught:
        prove.run(desired(image="debian"), node)
    assert caught.value.code == "proof-container-failed" and "shim is not installed" in caught.value.message


def shim(node: Path) -> None:
    """Put a shim where containerd looks for it."""
    place = node / "usr/local/bin/containerd-shim-kata-v2"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"\x7fELF")
    place.chmod(0o755)


def test_a_shim_that_is_there_always_starts_a_container_of_the_nodes_own_files(node: Path, fake_docker: FakeDocker) -> None:
    shim(node)
    fake_docker({"kata": {"runtimeType": "io.containerd.kata.v2"}}, AS_ARGUMENT)
    with pytest.raises(NodeError) as caught:
        prove.run(desired(), node)
    assert caught.value.code == "proof-not-a-guest", "the played runtime runs on this machine's own kernel"
    calls = [call.removeprefix("--context default ") for call in (node / "asked").read_text().splitlines() if call[:2] == "--"]
    words = [call.split()[0] for call in calls]
    assert words == ["image", "import", "run", "rm", "image"], calls
    image = calls[1].split()[-1]
    assert f" {image} -c " in calls[2] and calls[-1] == f"image rm --force {image}"


def test_an_image_without_the_sandboxs_tools_is_a_failure(
    node: Path, fake_docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(node, "")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("cat", "id", "true", "sh", "timeout", "sleep"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    fake_docker({"kata": {"path": "runc"}}, f"PATH={tools}; {AS_ARGUMENT}")
    monkeypatch.setattr(prove, "boot_id", lambda root: "11111111-2222-3333-4444-555555555555")
    with pytest.raises(NodeError) as caught:
        prove.run(desired(image="bare", expect=[]), node)
    assert caught.value.code == "proof-tool-missing" and "verification.image" in caught.value.remedy


def test_preflights_tiny_guest_comes_up_and_a_broken_one_is_explained(
    node: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, explanation = preflight.tiny_guest("n1", QEMU, str(kernel), slow=False)
    assert guest["booted"] is True and guest["attempts"] == 1 and "reached user space" in explanation
    bad = node / "kernel"
    bad.write_bytes(b"hello" * 1000)
    with pytest.raises(NodeError) as caught:
        preflight.tiny_guest("n1", QEMU, str(bad), slow=False)
    assert caught.value.code == "preflight-guest-not-up" and "cannot load the kernel" in caught.value.message
