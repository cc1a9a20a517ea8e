"""What Kata would read on a machine: if these fail, a proof boots another guest than Kata does."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.host.kata import Effective, effective
from nodekit.host.kata_survey import Survey, survey
from nodekit.rules.kata.kata_layout import MANAGED_MARK
from tests.nodekit.kata_files import put, setting
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER


def read(root: Path, config_path: str | None = None, runtime: str = "go", hypervisor: str = "qemu") -> Effective:
    return effective(root, runtime=runtime, hypervisor=hypervisor, config_path=config_path)


def refused(root: Path, **how: str) -> NodeError:
    with pytest.raises(NodeError) as caught:
        read(root, **how)
    return caught.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, f"{FOLDER}/configuration-qemu.toml", CONFIG)
    (tmp_path / FOLDER / "configuration.toml").symlink_to("configuration-qemu.toml")
    put(tmp_path, "/opt/kata/VERSION", "3.32.0\n")
    return tmp_path


def test_the_release_file_is_read_through_its_link(root: Path) -> None:
    effective = read(root)
    assert (effective.config_file, effective.resolved_file) == (
        f"/{FOLDER}/configuration.toml",
        f"/{FOLDER}/configuration-qemu.toml",
    )
    assert (effective.kernel_params, effective.version, effective.shim, effective.drop_ins) == (BASE, "3.32.0", None, ())
    assert effective.hypervisor["default_memory"] == 2048


def test_a_file_below_etc_hides_the_release_and_config_path_hides_both(root: Path) -> None:
    put(root, "/etc/kata-containers/configuration.toml", setting("etc"))
    put(root, "/srv/mine.toml", setting("mine"))
    assert read(root).kernel_params == "etc"
    assert read(root, config_path="/srv/mine.toml").kernel_params == "mine"
    error = refused(root, config_path="/srv/other.toml")
    assert error.code == "kata-not-found"  # no way back to the list, as in Kata
    assert "name one that is there" in error.remedy and "Install Kata" not in error.remedy


def test_the_rust_runtime_reads_its_own_folder(root: Path) -> None:
    assert refused(root, runtime="rust").code == "kata-not-found"
    put(root, f"{FOLDER}/runtime-rs/configuration.toml", setting("rust"))
    assert read(root, runtime="rust").kernel_params == "rust"
    assert read(root).kernel_params == BASE


def test_an_absolute_link_stays_inside_the_root(root: Path) -> None:
    put(root, "/srv/real/kata.toml", setting("real"))
    put(root, "/srv/real/config.d/10-x.toml", setting("dropped"))
    (root / "etc/kata-containers").mkdir(parents=True)
    (root / "etc/kata-containers/configuration.toml").symlink_to("/srv/real/kata.toml")
    effective = read(root)
    assert effective.resolved_file == "/srv/real/kata.toml"
    assert effective.drop_ins == ("/srv/real/config.d/10-x.toml",)  # beside the real file, not beside the link
    assert effective.kernel_params == "dropped"


def test_drop_ins_count_in_name_order_whatever_their_suffix(root: Path) -> None:
    for name, value in (("50-b.toml", "second"), ("60-c.bak", "last"), ("10-a", "first")):
        put(root, f"{FOLDER}/config.d/{name}", setting(value))
    put(root, f"{FOLDER}/config.d/55-memory", "[hypervisor.qemu]\ndefault_memory = 512\n[runtime]\na = 1\n")
    effective = read(root)
    assert [path.rpartition("/")[2] for path in effective.drop_ins] == ["10-a", "50-b.toml", "55-memory", "60-c.bak"]
    assert effective.kernel_params == "last"
    assert effective.hypervisor["default_memory"] == 512
    assert effective.sources["kernel_params"].endswith("60-c.bak")
    assert effective.sources["default_memory"].endswith("55-memory")
    assert effective.sources["kernel"] == effective.resolved_file


def test_a_drop_in_that_would_fail_every_guest_is_named(root: Path) -> None:
    bad = put(root, f"{FOLDER}/config.d/20-bad", "[hypervisor.qemu\n")
    assert "20-bad is not valid TOML" in refused(root).message
    bad.unlink()
    bad.mkdir()
    assert "20-bad" in refused(root).message
    bad.rmdir()
    bad.symlink_to("nowhere")
    assert "dangling" in refused(root).message


@pytest.mark.parametrize("text", ["hypervisor = 3\n", "[hypervisor]\nqemu = true\n", "[hypervisor.qemu]\nkernel_params = 3\n"])
def test_a_drop_in_that_spoils_the_table_is_named_and_not_the_file_of_the_release(root: Path, text: str) -> None:
    put(root, f"{FOLDER}/config.d/40-x.toml", text)
    put(root, f"{FOLDER}/config.d/50-y.toml", "[runtime]\na = 1\n")
    assert refused(root).message.startswith(f"/{FOLDER}/config.d/40-x.toml ")


def test_a_linked_drop_in_is_refused_as_the_rust_runtime_does(root: Path) -> None:
    put(root, "/srv/drop", setting("linked"))
    for folder in (FOLDER, f"{FOLDER}/runtime-rs"):
        put(root, f"{folder}/configuration.toml" if "rs" in folder else f"{folder}/configuration-qemu.toml", CONFIG)
        (root / folder / "config.d").mkdir()
        (root / folder / "config.d/10-link").symlink_to("/srv/drop")
    assert read(root).kernel_params == "linked"
    assert "symbolic link" in refused(root, runtime="rust").message


def test_a_missing_kata_names_what_kata_deploy_has_put_there(tmp_path: Path) -> None:
    path = f"{FOLDER}/runtimes/qemu/configuration-qemu.toml"
    put(tmp_path, path, CONFIG)
    error = refused(tmp_path)
    assert error.code == "kata-not-found" and f"/{path}" in error.remedy
    assert read(tmp_path, config_path=f"/{path}").kernel_params == BASE


def test_a_file_of_another_hypervisor_leads_to_the_right_one(root: Path) -> None:
    put(root, f"{FOLDER}/configuration-fc.toml", '[hypervisor.firecracker]\nkernel_params = "fc"\n')
    error = refused(root, hypervisor="firecracker")
    assert "no table [hypervisor.firecracker] (it has: qemu)" in error.message
    assert f"/{FOLDER}/configuration-fc.toml with configPath" in error.remedy
    assert read(root, config_path=f"/{FOLDER}/configuration-fc.toml", hypervisor="firecracker").kernel_params == "fc"


def test_the_shim_in_path_comes_before_the_one_of_the_release(root: Path) -> None:
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x")
    assert read(root).shim is None  # it cannot be executed
    (root / "opt/kata/bin/containerd-shim-kata-v2").chmod(0o755)
    assert read(root).shim == "/opt/kata/bin/containerd-shim-kata-v2"
    put(root, "/usr/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    assert read(root).shim == "/usr/bin/containerd-shim-kata-v2"


def test_the_shim_of_dockers_own_runtime_counts_where_no_other_is_known(root: Path) -> None:
    program = "/srv/kata/bin/containerd-shim-kata-v2"
    put(root, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": {"runtimeType": program}}}))
    assert read(root).shim is None, "it is not there"
    put(root, program, "x").chmod(0o755)
    assert read(root).shim == program
    put(root, "/usr/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    assert read(root).shim == "/usr/bin/containerd-shim-kata-v2"


@pytest.mark.parametrize("named", ["/usr/local/bin/containerd-shim-kata-mine-v2", "io.containerd.kata-mine.v2"])
@pytest.mark.parametrize("is_linked", [True, False], ids=["beside Kata's own", "alone"])
@pytest.mark.parametrize("runtime", ["go", "rust"])
def test_a_script_that_dockers_runtime_starts_names_the_file(root: Path, named: str, is_linked: bool, runtime: str) -> None:
    """Lost if this fails: parameters in a file that no container of Docker's reads."""
    (root / "usr/local/bin").mkdir(parents=True)
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    if is_linked:
        (root / "usr/local/bin/containerd-shim-kata-v2").symlink_to("/opt/kata/bin/containerd-shim-kata-v2")
    put(root, "/srv/mine.toml", kata_table("mine"))
    script = '#!/bin/sh\nKATA_CONF_FILE=/srv/mine.toml exec /opt/kata/bin/containerd-shim-kata-v2 "$@"\n'
    put(root, "/usr/local/bin/containerd-shim-kata-mine-v2", script).chmod(0o755)
    put(root, f"{FOLDER}/runtime-rs/configuration.toml", CONFIG)
    assert read(root, runtime=runtime).kernel_params == BASE
    put(root, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": {"runtimeType": named}}}))
    around = read(root, runtime=runtime)
    assert around.kernel_params == "mine"
    assert "containerd-shim-kata-mine-v2, the shim of docker runtime kata names /srv/mine.toml" in around.chosen_by


def test_a_script_that_starts_another_has_what_that_one_sets_and_the_list_of_the_shim_behind_both(root: Path) -> None:
    """Lost if this fails: the file of a script behind one that sets a PATH alone, or a package's file for a release's shim."""
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    put(root, "/usr/share/defaults/kata-containers/configuration.toml", kata_table("package"))
    put(root, "/srv/mine.toml", kata_table("mine"))
    outer = "/usr/local/bin/containerd-shim-kata-outer-v2"
    put(root, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": {"runtimeType": outer}}}))
    put(root, outer, '#!/bin/sh\nPATH=/opt/kata/bin:$PATH exec "/opt/kata/bin/containerd-shim-kata-v2" "$@"\n').chmod(0o755)
    assert read(root).kernel_params == BASE
    inner = "/usr/local/bin/containerd-shim-kata-inner-v2"
    put(root, inner, "#!/bin/sh\nKATA_CONF_FILE=/srv/mine.toml exec /opt/kata/bin/containerd-shim-kata-v2\n").chmod(0o755)
    put(root, outer, "#!/bin/sh\n# exec /opt/kata/bin/containerd-shim-kata-v2\nexec containerd-shim-kata-inner-v2 $@\n")
    assert read(root).kernel_params == "mine" and inner in read(root).chosen_by
    put(root, inner, f"#!/bin/sh\nexec {outer}\n")  # leads back
    assert read(root).kernel_params == "package"


def test_a_script_that_does_not_export_its_file_leaves_the_shim_without_it(root: Path) -> None:
    """Lost if this fails: parameters beside a file that no shim reads."""
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    put(root, "/srv/mine.toml", kata_table("mine"))
    script = '#!/bin/sh\nKATA_CONF_FILE=/srv/mine.toml\nexec /opt/kata/bin/containerd-shim-kata-v2 "$@"\n'
    file = put(root, "/usr/local/bin/containerd-shim-kata-v2", script)
    file.chmod(0o755)
    note = f"/usr/local/bin/{file.name} sets KATA_CONF_FILE=/srv/mine.toml and does not export it, so no shim has it"
    now = read(root)
    assert now.kernel_params == BASE and note in survey(root, now, runtime="go", hypervisor="qemu").notes
    unit = put(root, "/usr/lib/systemd/system/containerd.service", "[Service]\nEnvironment=KATA_CONF_FILE=/srv/unit.toml\n")
    assert read(root).kernel_params == "mine", "a variable that was in the environment stays in it"
    unit.unlink()
    file.write_text(script.replace("exec", "export KATA_CONF_FILE\nexec"))
    now = read(root)
    assert now.kernel_params == "mine" and not survey(root, now, runtime="go", hypervisor="qemu").notes


def test_a_script_of_kata_s_own_name_counts_not_where_docker_starts_another_shim(root: Path) -> None:
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    put(root, "/srv/mine.toml", kata_table("mine"))
    script = '#!/bin/sh\nKATA_CONF_FILE=/srv/mine.toml exec /opt/kata/bin/containerd-shim-kata-v2 "$@"\n'
    put(root, "/usr/local/bin/containerd-shim-kata-v2", script).chmod(0o755)
    assert read(root).kernel_params == "mine"
    by_path = {"runtimeType": "/opt/kata/bin/containerd-shim-kata-v2"}
    put(root, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": by_path}}))
    assert read(root).kernel_params == BASE


@pytest.mark.parametrize("launcher", ["docker", "containerd"])
def test_a_script_that_4_x_refuses_is_refused_whoever_starts_it(root: Path, launcher: str) -> None:
    """Lost if this fails: every guest fails, and the run before note that all is well."""
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    put(root, "/srv/mine.toml", kata_table("mine"))
    script = '#!/bin/sh\nKATA_CONF_FILE=/srv/mine.toml exec /opt/kata/bin/containerd-shim-kata-v2 "$@"\n'
    put(root, "/usr/local/bin/containerd-shim-kata-mine-v2", script).chmod(0o755)
    if launcher == "docker":
        by_type = {"runtimeType": "io.containerd.kata-mine.v2"}
        put(root, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": by_type}}))
    else:
        table = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-mine]'
        put(root, "/etc/containerd/config.toml", f'version = 2\n{table}\nruntime_type = "io.containerd.kata-mine.v2"\n')
    assert read(root).kernel_params == "mine"
    put(root, "/opt/kata/VERSION", "4.0.0\n")
    error = refused(root)
    assert error.code == "kata-environment-refused" and "containerd-shim-kata-mine-v2 sets KATA_CONF_FILE" in error.message


def test_a_release_build_is_one_where_opt_is_a_link_too(root: Path) -> None:
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    put(root, "/usr/share/defaults/kata-containers/configuration.toml", setting("package"))
    assert read(root).kernel_params == BASE
    (root / "opt").rename(root / "large")
    (root / "opt").symlink_to("large")
    assert read(root).kernel_params == BASE


def test_a_launcher_that_names_no_absolute_path_is_named_and_hides_nothing(root: Path) -> None:
    put(root, "/etc/containerd/config.toml", handler("kata-mine", "mine.toml"))
    put(root, "/etc/docker/daemon.json", docker("theirs.toml", "theirs"))
    notes = " ".join(survey(root, read(root), runtime="go", hypervisor="qemu").notes)
    assert "handler kata-mine in /etc/containerd/config.toml names mine.toml" in notes and "names theirs.toml" in notes
    put(root, "/etc/docker/daemon.json", docker("ours.toml"))
    error = refused(root)
    assert error.code == "kata-not-found" and "/etc/docker/daemon.json names ours.toml" in error.message


def test_an_unknown_hypervisor_and_a_version_that_nobody_tells(root: Path) -> None:
    assert refused(root, hypervisor="xen").code == "bad-input"
    (root / "opt/kata/VERSION").unlink()
    assert read(root).version is None


DEFAULTS = f"/{FOLDER}"
ETC = "/etc/kata-containers/configuration.toml"
GO = f"{DEFAULTS}/runtimes/qemu/configuration-qemu.toml"
RUST = f"{DEFAULTS}/runtime-rs/runtimes/qemu-runtime-rs/configuration-qemu-runtime-rs.toml"
CUSTOM = f"{DEFAULTS}/custom-runtimes/kata-mine/configuration-qemu.toml"
UNIT = "/etc/systemd/system/containerd.service.d/kata.conf"


def kata_table(value: str) -> str:
    """A base file that is complete enough to cause no note."""
    return setting(value) + 'kernel = "/opt/kata/vmlinux"\n'


def docker(path: str, name: str = "kata") -> str:
    return json.dumps({"runtimes": {name: {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": path}}}})


def handler(name: str, path: str, plugin: str = "io.containerd.grpc.v1.cri") -> str:
    at = f'plugins."{plugin}".containerd.runtimes.{name}'
    return f'[{at}]\nruntime_type = "io.containerd.{name}.v2"\n[{at}.options]\nConfigPath = "{path}"\n'


def environment(path: str) -> str:
    return f"[Service]\nEnvironment=KATA_CONF_FILE={path}\n"


@dataclass(frozen=True)
class Layout:
    """A small node, and what Kata reads on it."""

    files: dict[str, str]
    """Path -> text; a text that begins with `-> ` is a link's target."""
    file: str
    value: str
    because: str
    """What the reason must hold."""
    resolved: str | None = None
    drop_ins: tuple[str, ...] = ()
    dead: dict[str, str] = field(default_factory=dict)
    """Every ignored path -> what its reason must hold."""
    version: str | None = "3.32.0"
    runtime: str = "go"
    config_path: str | None = None


RELEASE = {
    f"{DEFAULTS}/configuration-qemu.toml": kata_table("release"),
    f"{DEFAULTS}/configuration.toml": "-> configuration-qemu.toml",
}
DEPLOYED = {
    **RELEASE,
    GO: f"# {MANAGED_MARK}\n{kata_table('go')}",
    f"{DEFAULTS}/runtimes/qemu/config.d/30-kernel-params.toml": setting("thirty"),
    f"{DEFAULTS}/runtimes/fc/configuration-fc.toml": setting("fc", "firecracker"),
    RUST: kata_table("rust"),
    "/etc/containerd/config.toml": 'version = 3\nimports = ["/opt/kata/containerd/config.d/*.toml"]\n',
    "/opt/kata/containerd/config.d/kata-deploy.toml": handler("kata-qemu", GO, "io.containerd.cri.v1.runtime"),
}
LAYOUTS = {
    "by hand in /etc": Layout(
        {ETC: kata_table("hand")}, ETC, "hand", f"{ETC} is entry 1 of the go runtime's own list", version=None
    ),
    "distribution": Layout(
        {"/usr/share/defaults/kata-containers/configuration.toml": kata_table("package")},
        "/usr/share/defaults/kata-containers/configuration.toml",
        "package",
        "entry 2 of the go",
        version=None,
    ),
    "release": Layout(
        RELEASE,
        f"{DEFAULTS}/configuration.toml",
        "release",
        "entry 3 of the go",
        resolved=f"{DEFAULTS}/configuration-qemu.toml",
    ),
    "release with a shim of its own looks in /opt/kata": Layout(
        {
            **RELEASE,
            "/usr/share/defaults/kata-containers/configuration.toml": kata_table("package"),
            "/opt/kata/bin/containerd-shim-kata-v2": "x",
        },
        f"{DEFAULTS}/configuration.toml",
        "release",
        "entry 2 of the go",
        resolved=f"{DEFAULTS}/configuration-qemu.toml",
        dead={"/usr/share/defaults/kata-containers/configuration.toml": "a release build, which looks below /opt/kata"},
    ),
    "the seed's own path over a release": Layout(
        {**RELEASE, ETC: kata_table("seed"), f"{DEFAULTS}/config.d/50-a.toml": setting("lost")},
        ETC,
        "seed",
        "entry 1",
        dead={
            f"{DEFAULTS}/configuration.toml": f"{ETC} comes before it",
            f"{DEFAULTS}/configuration-qemu.toml": "no setting names it",
            f"{DEFAULTS}/config.d": f"beside the file in use, {ETC}",
        },
    ),
    "kata-deploy under Docker makes the seed's own path dead": Layout(
        {**DEPLOYED, ETC: kata_table("seed"), "/etc/docker/daemon.json": docker(GO)},
        GO,
        "thirty",
        f"ConfigPath of Docker's runtime kata in /etc/docker/daemon.json names {GO}",
        drop_ins=(f"{DEFAULTS}/runtimes/qemu/config.d/30-kernel-params.toml",),
        dead={
            ETC: "list does not count, as ConfigPath of Docker's runtime kata",
            f"{DEFAULTS}/configuration.toml": "list does not count",
            f"{DEFAULTS}/configuration-qemu.toml": "names another file",
            f"{DEFAULTS}/runtimes/fc/configuration-fc.toml": "kata-deploy's file of fc",
            RUST: "kata-deploy's file of qemu-runtime-rs",
            GO: "replaced by those of",
        },
        version="3.27.0",
    ),
    "kata-deploy seen from its handler alone": Layout(
        DEPLOYED,
        GO,
        "thirty",
        "ConfigPath of containerd handler kata-qemu in /opt/kata/containerd/config.d/kata-deploy.toml",
        drop_ins=(f"{DEFAULTS}/runtimes/qemu/config.d/30-kernel-params.toml",),
        dead={
            f"{DEFAULTS}/configuration.toml": "as ConfigPath of containerd handler kata-qemu",
            f"{DEFAULTS}/configuration-qemu.toml": "ConfigPath of containerd handler kata-qemu",
            GO: "its kernel_params are replaced",
            f"{DEFAULTS}/runtimes/fc/configuration-fc.toml": "kata-deploy's file of fc",
            RUST: "kata-deploy's file of qemu-runtime-rs",
        },
        version="3.27.0",
    ),
    "a newer kata-deploy links the release's file to its own": Layout(
        {
            GO: kata_table("go"),
            f"{DEFAULTS}/configuration-qemu.toml": "-> runtimes/qemu/configuration-qemu.toml",
            f"{DEFAULTS}/configuration.toml": "-> configuration-qemu.toml",
            f"{DEFAULTS}/config.d/50-a.toml": setting("lost"),
            f"{DEFAULTS}/runtimes/qemu/config.d/50-b.toml": setting("kept"),
        },
        f"{DEFAULTS}/configuration.toml",
        "kept",
        "entry 3",
        resolved=GO,
        drop_ins=(f"{DEFAULTS}/runtimes/qemu/config.d/50-b.toml",),
        dead={
            f"{DEFAULTS}/config.d": f"beside the link {DEFAULTS}/configuration.toml",
            GO: "replaced by those of",
        },
    ),
    "kata-deploy's rust shim": Layout(
        {**DEPLOYED, f"{DEFAULTS}/runtime-rs/configuration.toml": kata_table("rust release")},
        RUST,
        "rust",
        f"the given configPath names {RUST}",
        dead={
            f"{DEFAULTS}/runtime-rs/configuration.toml": "as the given configPath names another",
            f"{DEFAULTS}/configuration.toml": "only the go runtime reads it",
            f"{DEFAULTS}/configuration-qemu.toml": "a file of the go runtime",
            f"{DEFAULTS}/runtimes/fc/configuration-fc.toml": "kata-deploy's file of fc",
        },
        runtime="rust",
        config_path=RUST,
    ),
    "a script for each handler": Layout(
        {
            ETC: kata_table("seed"),
            GO: kata_table("go"),
            f"{DEFAULTS}/runtimes/fc/configuration-fc.toml": setting("fc", "firecracker"),
            "/opt/kata/bin/containerd-shim-kata-v2": "ELF",
            "/usr/local/bin/containerd-shim-kata-qemu-v2": f"#!/bin/sh\nexec env KATA_CONF_FILE={GO} /opt/kata/bin/shim $@\n",
            "/usr/local/bin/containerd-shim-kata-fc-v2": "#!/bin/sh\n"
            f"KATA_CONF_FILE={DEFAULTS}/runtimes/fc/configuration-fc.toml s\n",
            "/etc/containerd/config.toml": "version = 2\n"
            + "".join(
                f'[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]\nruntime_type = "io.containerd.{name}.v2"\n'
                for name in ("kata-qemu", "kata-fc")
            ),
        },
        GO,
        "go",
        "KATA_CONF_FILE in /usr/local/bin/containerd-shim-kata-qemu-v2, the shim of containerd handler kata-qemu",
        dead={ETC: "KATA_CONF_FILE in /usr/local/bin/containerd-shim-kata-qemu-v2"},
    ),
    "CRI-O alone": Layout(
        {
            **RELEASE,
            "/etc/crio/crio.conf.d/99-kata": "[crio.runtime.runtimes.kata]\n"
            'runtime_type = "vm"\nruntime_config_path = "/srv/k.toml"\n',
            "/srv/k.toml": kata_table("crio"),
        },
        "/srv/k.toml",
        "crio",
        "ConfigPath of crio handler kata in /etc/crio/crio.conf.d/99-kata",
        dead={
            f"{DEFAULTS}/configuration.toml": "as ConfigPath of crio handler kata",
            f"{DEFAULTS}/configuration-qemu.toml": "names another file",
        },
    ),
    "a custom runtime": Layout(
        {CUSTOM: kata_table("custom"), f"{CUSTOM.rpartition('/')[0]}/config.d/50-overrides.toml": "[runtime]\na = 1\n"},
        CUSTOM,
        "custom",
        "the given configPath",
        drop_ins=(f"{CUSTOM.rpartition('/')[0]}/config.d/50-overrides.toml",),
        config_path=CUSTOM,
    ),
    "the unit's environment": Layout(
        {**RELEASE, ETC: kata_table("seed"), "/srv/k.toml": kata_table("unit"), UNIT: environment("/srv/k.toml")},
        "/srv/k.toml",
        "unit",
        f"KATA_CONF_FILE in {UNIT} names /srv/k.toml",
        dead={
            ETC: f"as KATA_CONF_FILE in {UNIT} names another",
            f"{DEFAULTS}/configuration.toml": "list does not count",
            f"{DEFAULTS}/configuration-qemu.toml": "names another file",
        },
    ),
    "an environment file": Layout(
        {
            ETC: kata_table("seed"),
            "/srv/k.toml": kata_table("unit"),
            "/lib/systemd/system/containerd.service": f"{environment('/nowhere')}EnvironmentFile=-/etc/default/c\n",
            "/etc/default/c": "KATA_CONF_FILE=/srv/k.toml\n",
        },
        "/srv/k.toml",
        "unit",
        "KATA_CONF_FILE in /etc/default/c",
        dead={ETC: "as KATA_CONF_FILE in /etc/default/c names another"},
    ),
    "ConfigPath comes before the environment with Go": Layout(
        {
            "/a.toml": kata_table("a"),
            "/b.toml": kata_table("b"),
            UNIT: environment("/b.toml"),
            "/etc/docker/daemon.json": docker("/a.toml"),
        },
        "/a.toml",
        "a",
        "ConfigPath of Docker's runtime kata",
    ),
    "and after it with Rust": Layout(
        {"/a.toml": kata_table("a"), "/b.toml": kata_table("b"), UNIT: environment("/b.toml")},
        "/b.toml",
        "b",
        f"KATA_CONF_FILE in {UNIT}",
        runtime="rust",
        config_path="/a.toml",
    ),
    "an empty variable hides ConfigPath from Rust": Layout(
        {
            "/a.toml": kata_table("a"),
            "/etc/kata-containers/runtime-rs/configuration.toml": kata_table("list"),
            UNIT: environment(""),
        },
        "/etc/kata-containers/runtime-rs/configuration.toml",
        "list",
        "entry 1 of the rust",
        runtime="rust",
        config_path="/a.toml",
    ),
    "and is none to Go": Layout({ETC: kata_table("list"), UNIT: environment("")}, ETC, "list", "entry 1"),
    "a script in the shim's place": Layout(
        {
            **RELEASE,
            "/usr/local/bin/containerd-shim-kata-v2": f"#!/bin/sh\nKATA_CONF_FILE={GO} /opt/kata/bin/shim $@\n",
            GO: kata_table("go"),
        },
        GO,
        "go",
        "KATA_CONF_FILE in /usr/local/bin/containerd-shim-kata-v2",
        dead={
            f"{DEFAULTS}/configuration.toml": "list does not count",
            f"{DEFAULTS}/configuration-qemu.toml": "names another file",
        },
    ),
    "a script that keeps the file in a variable": Layout(
        {
            "/usr/local/bin/containerd-shim-kata-v2": f'#!/bin/sh\nDIR={DEFAULTS}\nCONF="${{DIR}}/runtimes/qemu"\n'
            f'KATA_CONF_FILE="$CONF"/configuration-qemu.toml exec /opt/kata/bin/shim "$@"\n',
            GO: kata_table("go"),
        },
        GO,
        "go",
        "KATA_CONF_FILE in /usr/local/bin/containerd-shim-kata-v2",
    ),
    "a masked unit leaves dockerd its own containerd": Layout(
        {
            ETC: kata_table("seed"),
            "/srv/k.toml": kata_table("unit"),
            "/etc/systemd/system/containerd.service": "-> /dev/null",
            UNIT: environment("/nowhere"),
            "/lib/systemd/system/containerd.service": environment("/nowhere"),
            "/lib/systemd/system/docker.service": environment("/srv/k.toml"),
        },
        "/srv/k.toml",
        "unit",
        "KATA_CONF_FILE in /lib/systemd/system/docker.service",
        dead={ETC: "names another"},
    ),
    "an empty file masks a unit too": Layout(
        {
            "/srv/k.toml": kata_table("unit"),
            "/etc/systemd/system/containerd.service": "",
            "/lib/systemd/system/containerd.service": environment("/nowhere"),
            "/lib/systemd/system/docker.service": environment("/srv/k.toml"),
        },
        "/srv/k.toml",
        "unit",
        "KATA_CONF_FILE in /lib/systemd/system/docker.service",
    ),
    "a shipped file from the environment in 4.x": Layout(
        {**RELEASE, UNIT: environment(f"{DEFAULTS}/configuration-qemu.toml")},
        f"{DEFAULTS}/configuration-qemu.toml",
        "release",
        "KATA_CONF_FILE",
        version="4.1.0",
    ),
    "a dangling link in the list": Layout(
        {**RELEASE, ETC: "-> /gone.toml"},
        f"{DEFAULTS}/configuration.toml",
        "release",
        "entry 3",
        resolved=f"{DEFAULTS}/configuration-qemu.toml",
        dead={ETC: "a symbolic link to /gone.toml, which does not exist"},
    ),
    "a link out of /etc, and a config.d beside it": Layout(
        {
            ETC: "-> /srv/real.toml",
            "/srv/real.toml": kata_table("real"),
            "/etc/kata-containers/config.d/50-a.toml": setting("lost"),
            "/srv/config.d/50-b.toml": setting("kept"),
        },
        ETC,
        "kept",
        "entry 1",
        resolved="/srv/real.toml",
        drop_ins=("/srv/config.d/50-b.toml",),
        dead={
            "/etc/kata-containers/config.d": f"beside the link {ETC}; Kata reads the one beside its target, /srv/config.d",
            "/srv/real.toml": "replaced by those of /srv/config.d/50-b.toml",
        },
    ),
    "a link out of /etc, and a linked config.d": Layout(
        {
            ETC: "-> /srv/real.toml",
            "/srv/real.toml": kata_table("real"),
            "/etc/kata-containers/config.d": "-> /srv/config.d",
            "/srv/config.d/50-b.toml": "[runtime]\na = 1\n",
        },
        ETC,
        "real",
        "entry 1",
        resolved="/srv/real.toml",
        drop_ins=("/srv/config.d/50-b.toml",),
    ),
    "drop-ins before 2.5.0": Layout(
        {**RELEASE, f"{DEFAULTS}/config.d/50-a.toml": setting("lost")},
        f"{DEFAULTS}/configuration.toml",
        "release",
        "entry 3",
        resolved=f"{DEFAULTS}/configuration-qemu.toml",
        dead={f"{DEFAULTS}/config.d": "Kata 2.4.3 reads no drop-ins"},
        version="2.4.3",
    ),
    "a file of another name in /etc": Layout(
        {ETC: kata_table("list"), "/etc/kata-containers/configuration-qemu.toml": kata_table("lost")},
        ETC,
        "list",
        "entry 1",
        dead={"/etc/kata-containers/configuration-qemu.toml": "configuration.toml only"},
    ),
    "rust before 3.3.0 reads the go runtime's paths": Layout(
        {ETC: kata_table("both")}, ETC, "both", "entry 1 of the rust", version="3.2.0", runtime="rust"
    ),
    "another runtime of Docker decides nothing": Layout(
        {ETC: kata_table("list"), "/b.toml": kata_table("b"), "/etc/docker/daemon.json": docker("/b.toml", "kata-b")},
        ETC,
        "list",
        "entry 1",
    ),
    "three drop-ins that replace each other": Layout(
        {
            ETC: setting("base") + 'kernel = "k"\n',
            **{f"/etc/kata-containers/config.d/{n}.toml": setting(n) for n in ("10", "20", "30")},
        },
        ETC,
        "30",
        "entry 1",
        drop_ins=tuple(f"/etc/kata-containers/config.d/{n}.toml" for n in ("10", "20", "30")),
        dead=dict.fromkeys((ETC, "/etc/kata-containers/config.d/10.toml", "/etc/kata-containers/config.d/20.toml"), "30.toml"),
    ),
}


def built(root: Path, files: dict[str, str], version: str | None) -> Path:
    for path, text in files.items():
        if text.startswith("-> "):
            link = root / path.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(text.removeprefix("-> "))
        else:
            put(root, path, text).chmod(0o755)
    if version:
        put(root, "/opt/kata/VERSION", version)
    return root


def surveyed(root: Path, config_path: str | None = None, runtime: str = "go") -> Survey:
    return survey(root, read(root, config_path, runtime), runtime=runtime, hypervisor="qemu")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_what_is_read_in_every_layout_and_what_is_dead(layout: Layout, tmp_path: Path) -> None:
    root = built(tmp_path, layout.files, layout.version)
    effective = read(root, layout.config_path, layout.runtime)
    assert (effective.config_file, effective.resolved_file) == (layout.file, layout.resolved or layout.file)
    assert (effective.kernel_params, effective.drop_ins) == (layout.value, layout.drop_ins)
    assert layout.because in effective.chosen_by
    around = surveyed(root, layout.config_path, layout.runtime)
    assert {entry.path for entry in around.dead} == set(layout.dead)
    for entry in around.dead:
        assert layout.dead[entry.path] in entry.reason, entry
    assert all(note.endswith(" alone") for note in around.notes)


@pytest.mark.parametrize(
    ("runtime", "config_path", "value"), [("go", None, "/srv/k.toml"), ("rust", None, "/srv/k.toml"), ("rust", "/srv/k.toml", "")]
)
def test_an_environment_that_4_x_refuses_is_an_error_not_another_file(
    root: Path, runtime: str, config_path: str | None, value: str
) -> None:
    put(root, "/srv/k.toml", kata_table("mine"))
    put(root, f"{FOLDER}/runtime-rs/configuration.toml", CONFIG)
    put(root, UNIT, environment(value))
    put(root, "/opt/kata/VERSION", "3.32.0\n")
    read(root, config_path, runtime)
    put(root, "/opt/kata/VERSION", "4.0.0\n")
    error = refused(root, runtime=runtime, config_path=config_path)
    assert error.code == "kata-environment-refused"
    assert UNIT in error.message and "4.0.0" in error.message and "configPath" in error.remedy
    if runtime == "go":  # there a ConfigPath comes first, and the environment is not even looked at
        assert read(root, "/srv/k.toml").kernel_params == "mine"


@pytest.mark.parametrize(
    ("text", "value"), [("KATA_CONF_FILE=/srv/k.toml\n", "mine"), ("export KATA_CONF_FILE=/srv/k.toml\n", BASE)]
)
@pytest.mark.parametrize("named", ["/etc/default/kata-env", "/etc/default/kata-*"])
def test_a_unit_s_environment_file_counts_as_systemd_reads_it(root: Path, named: str, text: str, value: str) -> None:
    put(root, "/srv/k.toml", kata_table("mine"))
    put(root, UNIT, f"[Service]\nEnvironmentFile=-{named}\n")
    put(root, "/etc/default/kata-env", text)
    assert read(root).kernel_params == value


def test_a_drop_in_of_all_services_counts_less_than_the_unit_s_own(root: Path) -> None:
    put(root, "/srv/k.toml", kata_table("mine"))
    put(root, "/etc/systemd/system/service.d/10-all.conf", environment("/srv/k.toml"))
    assert read(root).kernel_params == BASE, "there is no such service"
    put(root, "/lib/systemd/system/containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n")
    assert read(root).kernel_params == "mine"
    put(root, "/usr/lib/systemd/system/containerd.service.d/10-all.conf", "[Service]\n")
    assert read(root).kernel_params == BASE


@pytest.mark.parametrize("unit", ["containerd", "docker"])
def test_a_shim_is_looked_up_in_the_path_that_the_unit_sets(root: Path, unit: str) -> None:
    """Lost if this fails: a shim that containerd starts, taken for absent, or another one in its place."""
    put(root, "/srv/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    put(root, "/usr/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    assert read(root).shim == "/usr/bin/containerd-shim-kata-v2"
    text = '[Service]\nEnvironment="PATH=/srv/kata/bin:/usr/local/bin:/usr/bin" OTHER=1\n'
    put(root, f"/etc/systemd/system/{unit}.service.d/path.conf", text)
    assert read(root).shim == "/srv/kata/bin/containerd-shim-kata-v2"
    put(root, f"/etc/systemd/system/{unit}.service.d/path.conf", "[Service]\nEnvironment=PATH=/bin:$PATH\n")
    assert read(root).shim is None, "systemd expands nothing there"


@pytest.mark.parametrize("words", ["-c /srv/containerd.toml", '"--config=/srv/containerd.toml"', "--config $CONFIG"])
def test_a_file_that_containerd_s_unit_names_is_the_one_that_starts_kata(root: Path, words: str) -> None:
    """Lost if this fails: the handler of a containerd with a file of its own, and the configuration that it names."""
    put(root, "/srv/mine.toml", kata_table("mine"))
    put(root, "/srv/containerd.toml", handler("kata-mine", "/srv/mine.toml"))
    put(root, "/etc/containerd/config.toml", handler("kata-unread", "/srv/unread.toml"))
    put(root, UNIT, f"[Service]\nEnvironment=CONFIG=/srv/containerd.toml\nExecStart=/usr/local/bin/containerd {words}\n")
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    assert [launcher.name for launcher in surveyed(root).launchers] == ["containerd handler kata-mine"]
    assert read(root).kernel_params == "mine"


def test_the_wanted_release_decides_where_the_machine_tells_none(root: Path) -> None:
    (root / "opt/kata/VERSION").unlink()
    put(root, f"{FOLDER}/config.d/50-a.toml", setting("dropped"))
    how = {"runtime": "go", "hypervisor": "qemu"}
    assert effective(root, **how, config_path=None, wanted_version="2.4.3").kernel_params == BASE
    assert effective(root, **how, config_path=None, wanted_version="2.5.0").kernel_params == "dropped"


def test_every_launcher_of_kata_is_named_in_whatever_form_it_is_configured(tmp_path: Path) -> None:
    put(tmp_path, ETC, kata_table("list"))
    put(tmp_path, "/etc/docker/daemon.json", docker("/d.toml", "kata-d"))
    put(tmp_path, "/etc/containerd/conf.d/a.toml", handler("kata-a", "/a.toml"))  # 2.2 imports it when no main file is there
    rancher = "/var/lib/rancher/k3s/agent/etc/containerd"
    put(tmp_path, f"{rancher}/config.toml", 'version = 3\nimports = ["config-v3.toml.d/*.toml", "config.toml", "gone.toml"]\n')
    put(tmp_path, f"{rancher}/config-v3.toml.d/k.toml", handler("kata-k", "/k.toml", "io.containerd.cri.v1.runtime"))
    assert [(launcher.name, launcher.file, launcher.config_path) for launcher in surveyed(tmp_path).launchers] == [
        ("docker runtime kata-d", "/etc/docker/daemon.json", "/d.toml"),
        ("containerd handler kata-a", "/etc/containerd/conf.d/a.toml", "/a.toml"),
        ("containerd handler kata-k", f"{rancher}/config-v3.toml.d/k.toml", "/k.toml"),
    ]
    put(tmp_path, "/etc/containerd/config.toml", "version = 2\n")
    assert "containerd handler kata-a" not in [launcher.name for launcher in surveyed(tmp_path).launchers]


@pytest.mark.parametrize("name", ["9" * 300 + "/*.toml", "9" * 5000 + "*"], ids=["folder", "path"])
def test_a_pattern_of_names_that_no_file_can_have_imports_nothing(tmp_path: Path, name: str) -> None:
    put(tmp_path, ETC, setting("x"))
    main = f'version = 2\nimports = ["{name}"]\n' + handler("kata-a", "/a.toml").replace("version = 2\n", "")
    put(tmp_path, "/etc/containerd/config.toml", main)
    assert [launcher.name for launcher in surveyed(tmp_path).launchers] == ["containerd handler kata-a"]


def test_a_name_that_no_file_can_have_is_noted(tmp_path: Path) -> None:
    put(tmp_path, ETC, setting("x"))
    put(tmp_path, "/etc/containerd/config.toml", f'version = 2\nimports = ["{"9" * 300}.toml"]\n')
    assert any("9 cannot be looked at: File name too long" in note for note in surveyed(tmp_path).notes)


def test_what_a_person_should_know_is_a_note(tmp_path: Path) -> None:
    put(tmp_path, ETC, setting("partial"))
    for name in ("50-a.toml", "50-a.toml.bak", ".60-b.toml.swp", "70-c~"):
        put(tmp_path, f"/etc/kata-containers/config.d/{name}", setting(name))
    put(tmp_path, "/etc/containerd/config.toml", "broken = [\n")
    put(tmp_path, "/lib/systemd/system/containerd.service", "[Service]\n")
    put(tmp_path, "/etc/systemd/system/docker.service.d/k.conf", environment("/srv/k.toml"))
    notes = surveyed(tmp_path).notes
    assert [note.split(" ")[0].rpartition("/")[2] for note in notes if "leftover" in note] == [
        ".60-b.toml.swp",
        "50-a.toml.bak",
        "70-c~",
    ]
    assert any("/etc/containerd/config.toml is not valid TOML" in note for note in notes)
    assert any("names no kernel" in note for note in notes)
    assert any("KATA_CONF_FILE=/srv/k.toml for dockerd, which does not count" in note for note in notes)
    assert len(notes) == 6


def test_a_config_d_that_is_a_file_fails_every_guest_and_is_named(root: Path) -> None:
    put(root, f"{FOLDER}/config.d", "x")
    assert "config.d is not a folder" in refused(root).message


def test_a_broken_daemon_json_is_no_reason_to_guess(root: Path) -> None:
    put(root, "/etc/docker/daemon.json", "{")
    assert "/etc/docker/daemon.json is not what dockerd reads" in refused(root).message
    assert read(root, f"/{FOLDER}/configuration.toml").kernel_params == BASE
