"""The faults that the suite makes, one row each, and the table in the documents that a run of it writes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.fault_story import Story

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/faults.md"
VARIABLE = "KATA_NODES_FAULTS_PAGE"
"""Environment variable that names the page into which a run writes what it measured."""
BOUNDS = (15, 30, 60, 120, 300)
"""Seconds: the classes of the column `within`."""
MIDDLE = {
    "system": "nodes-n1-system creating",
    "upload": "nodes-n1-upload creating",
    "program": "nodes-n1-converge creating",
    "preflight": "preflight: asking for",
    "docker": "Installing docker-ce",
    "kata": "Unpacking it to /opt/kata",
    "proof": "proof: the ladder in a booted guest",
}
"""Stage of `up` -> what it prints when it is in the middle of its work."""
CONVERGING = ("program", "preflight", "docker", "kata")
"""Stages that are one resource."""
SLOWED = {"preflight": "kata-static"}
"""Stages that are over at once, and what their site is late with, so that they have a middle."""
DOCKERS_TURN = "step docker"
REMOVAL = "Bringing packages back"
"""The same of `destroy`."""
LONGEST = 500
"""Characters of a sentence in the table."""

Act = Callable[[Story], object]


@dataclass(frozen=True)
class Fault:
    """One fault: how it is made, what it meets, how it is reported, and how it is cured."""

    name: str
    cause: str
    """How, for the table."""
    stage: str
    """The resource that meets it, or what of `-converge` does; `destroy` for what meets the removal."""
    strike: Act
    says: tuple[str, ...]
    """Words that the engine must show: the cause and the remedy."""
    code: str = ""
    """The stable code; empty where engine or plugin report the fault."""
    at: str = ""
    """What the run has printed when it strikes; empty: it strikes before the run."""
    cure: str = "remove the fault"
    act: Act = lambda story: story.cure()
    """The cure."""
    reported_by: str = "the run"
    """Or `the next run`, or `the second run` beside it."""
    ends: int = 1
    """Exit status of the run; 0 where the fault keeps nothing from being done, -9 where it is killed."""
    half: bool = False
    """Whether it can strike while dpkg works, whose half-done work the next run ends."""
    controller: str = ""
    """The controller of control groups without which it cannot be made."""
    settled: bool = False
    """Whether the stack is up before it strikes."""
    each_change: bool = False
    """Whether `make test` makes it too; all are made nightly."""

    @property
    def command(self) -> str:
        """The engine's command that it strikes."""
        return "destroy" if self.stage == "destroy" else "up"

    @property
    def strikes_first(self) -> bool:
        """Whether it is there before an `up` of a new stack, which it keeps from getting on."""
        return not (self.at or self.settled) and self.command == "up" and self.ends == 1


def _site(story: Story, pattern: str, kind: str) -> None:
    story.site.faults({pattern: kind})


def _site_fault(name: str, pattern: str, kind: str, stage: str, code: str, *says: str, each_change: bool = False) -> Fault:
    words = {
        "missing": "the site answers 404", "stall": "the site sends half of it, then nothing more", "altered": "7 bytes differ",
        "half": "the site closes the connection after half of it",
    }  # fmt: skip
    return Fault(name, words[kind], stage, lambda story: _site(story, pattern, kind), says, code, each_change=each_change)


def _release(name: str, which: str, cause: str, *says: str, each_change: bool = False) -> Fault:
    return Fault(
        name, cause, "docker", lambda story: story.site.release(which), says, "repository-unreachable", each_change=each_change
    )


def _full(name: str, folder: str, cause: str, stage: str, code: str, *says: str, ends: int = 1) -> Fault:
    # What lies in the folder is copied into a small file system over it, which is then filled.
    script = (
        f"cp -a {folder} /run/full; kib=$(($(du -sk {folder} | cut -f1) + 256)); "
        f"mount -t tmpfs -o size=${{kib}}k tmpfs {folder}; "
        f"cp -a /run/full/. {folder}; rm -r /run/full; cat /dev/zero >{folder}/filler 2>/dev/null || :; "
    )
    return Fault(name, cause, stage, lambda story: story.shell(script, f"umount -l {folder}"), says, code, ends=ends)


TREES = "/boot /etc /home /opt /root /srv /usr /var"
# Mounts of their own, since nothing that has a file open for writing keeps those from being read-only.
TURN_READ_ONLY = f"for tree in {TREES}; do mount --bind $tree $tree; mount -o remount,bind,ro $tree; done"
TURN_WRITABLE = f"for tree in {TREES}; do umount -l $tree; done"


def _read_only(name: str, cause: str, stage: str, code: str, *says: str, at: str = "", settled: bool = False) -> Fault:
    return Fault(name, cause, stage, lambda story: story.shell(TURN_READ_ONLY, TURN_WRITABLE), says, code, at=at, settled=settled)


def _read_only_for_sftp(name: str, cause: str, *says: str) -> Fault:
    # The upload takes a fifth of a second: who waits for the engine to print that it began comes too late.
    server, moved, turning = "/usr/lib/openssh/sftp-server", "/tmp/sftp-server", "/tmp/turning"
    script = f"""
cp {server} {moved}
cat >{turning} <<'END'
#!/bin/sh
sudo -n sh -c '{TURN_READ_ONLY}'
cd "$HOME" # now below the mount
exec {moved}
END
chmod 755 {turning}
mount --bind {turning} {server}
"""
    undo = f"{TURN_WRITABLE}; umount {server}; rm {moved} {turning}"
    return Fault(name, cause, "upload", lambda story: story.shell(script, undo), says)


WHOLE_DISK = "mount -o remount,size=$(($(df -k --output=used /mnt | tail -1) + 64))k /mnt"
DPKG_LOCK = "import fcntl; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX)"
NODE_LOCK = (
    "import fcntl; f = open('/run/kata-nodes.lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(os.getpid(), file=f, flush=True)"
)


def _engine_killed(stage: str, at: str, each_change: bool = False) -> Fault:
    def cure(story: Story) -> None:
        story.repair_state()
        story.unlock()
        story.cure()

    return Fault(
        f"engine killed ({stage})", "SIGKILL to the engine and all that it has started", stage, lambda story: story.kill_engine(),
        ("currently locked", "pulumi cancel"), at=at, act=cure, cure="`pulumi cancel`, then the same command again",
        reported_by="the next run", ends=-9, half=True, settled=stage == "destroy", each_change=each_change,
    )  # fmt: skip


def _cut(stage: str, at: str, each_change: bool = False) -> Fault:
    return Fault(
        f"connection cut ({stage})", "every connection ends, and none is taken for as long as it lasts", stage,
        lambda story: story.cut(), ("connection",), at=at, half=True, settled=stage == "destroy", each_change=each_change,
    )  # fmt: skip


def _rebooted(stage: str, at: str) -> Fault:
    return Fault(
        f"node rebooted ({stage})", "every process of the node ends at once, and its systemd starts from the same disk", stage,
        lambda story: story.reboot(), ("connection",), at=at, half=True,
        settled=stage == "destroy", cure="the same command again",
    )  # fmt: skip


STAGES = (*MIDDLE.items(), ("destroy", REMOVAL))
FAULTS: tuple[Fault, ...] = (
    _site_fault("Kata's archive is missing", "kata-static", "missing", "preflight", "kata-download-failed", "404", "install"),
    Fault(
        "DNS is dead (Kata's archive)", "no name server answers", "preflight",
        lambda story: (story.host.root / "etc/hosts").write_text("127.0.0.1 localhost\n"),
        ("archive.test", "name resolution", "reaches it"), "kata-download-failed", each_change=True,
    ),
    Fault(
        "another run holds the node", "flock on /run/kata-nodes.lock", "preflight", lambda story: story.hold(NODE_LOCK),
        ("/run/kata-nodes.lock", "Wait until that run has ended"), "node-busy",
    ),
    _site_fault("repository's key is missing", "/gpg$", "missing", "docker", "repository-unreachable", "/gpg", "404: Not Found"),
    _site_fault("repository's key stalls", "/gpg$", "stall", "docker", "repository-unreachable", "/gpg", "timed out"),
    _site_fault("half of the repository's key", "/gpg$", "half", "docker", "repository-unreachable", "/gpg", "ended after"),
    _site_fault("index is missing", "Release", "missing", "docker", "repository-unreachable", "404", each_change=True),
    _site_fault("index stalls", "Release", "stall", "docker", "repository-unreachable", "timed out"),
    _site_fault("half of the index", "Packages", "half", "docker", "repository-unreachable", "Packages"),
    _site_fault("index has another hash", "Packages", "altered", "docker", "repository-unreachable", "Hash Sum mismatch"),
    _release("index is signed by another key", "of another key", "InRelease of another key", "Missing key", each_change=True),
    _release("index's signature is wrong", "changed after it was signed", "InRelease changed after it was signed", "manipulated"),
    _release(
        "index's signature is expired", "with an expired signature", "InRelease with a signature that expired 11 months ago",
        "Expired on",
    ),
    _release(
        "clock a year behind", "dated a year ahead",
        "InRelease whose Date lies a year ahead: what apt sees where the node's clock is a year behind",
        "not valid yet", "timedatectl",
    ),
    _release(
        "clock a year ahead", "valid until a year ago",
        "InRelease whose Valid-Until is a year ago: what apt sees where the node's clock is a year ahead",
        "expired", "timedatectl",
    ),
    Fault(
        "DNS is dead (packages)", "the name server knows the archive's name only", "docker",
        lambda story: (story.host.root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.0.1 archive.test\n"),
        ("packages.test", "name resolution"), "repository-unreachable",
    ),
    _site_fault("package is missing", r"\.deb", "missing", "docker", "package-install-failed", "404"),
    _site_fault("package stalls", r"\.deb", "stall", "docker", "package-install-failed", "timed out"),
    _site_fault("half a package", r"\.deb", "half", "docker", "package-install-failed", "docker-ce"),
    _site_fault(
        "package has another hash", r"\.deb", "altered", "docker", "package-install-failed", "Hash Sum mismatch", each_change=True
    ),
    Fault(
        "apt's lock is held", "a program holds /var/lib/dpkg/lock-frontend", "docker", lambda story: story.hold(DPKG_LOCK),
        ("(python3)", "Wait until that program has ended"), "apt-lock-held", each_change=True,
    ),
    Fault(
        "disk full", "the file system of / has 64 KiB left when Docker's turn comes", "docker",
        lambda story: story.shell(WHOLE_DISK, "mount -o remount,size=8g /mnt"),
        ("No space left", "Free space"), at=DOCKERS_TURN,
        code="package-install-failed", each_change=True,
    ),
    _full("disk full in /etc", "/etc", "a full file system over /etc", "docker", "file-unwritable", "No space left", "space"),
    _full(
        "disk full in /var", "/var/cache/apt/archives", "a full file system over /var/cache/apt/archives", "docker",
        "package-install-failed", "enough free space", "Free space",
    ),
    _full("disk full in /tmp", "/tmp", "a full file system over /tmp", "docker", "", ends=0),
    _full("disk full in /boot", "/boot", "a full file system over /boot", "proof", "", ends=0),
    _read_only(
        "read-only root", "every folder of / is read-only", "system", "file-unwritable",
        "Read-only file system", "make the file system writable",
    ),
    _read_only_for_sftp(
        "read-only root (upload)", "every folder of / turns read-only when the program's turn comes",
        "Failure", "make the file system writable",
    ),
    _full("disk full in /home", "/home", "a full file system over /home", "system", "file-unwritable", "No space left", "Free"),
    _read_only(
        "read-only root (docker)", "every folder of / turns read-only when Docker's turn comes", "docker", "file-unwritable",
        "Read-only file system", "make the file system writable", at=DOCKERS_TURN,
    ),
    _read_only(
        "read-only root (destroy)", "every folder of / turns read-only before `destroy`", "destroy", "file-unwritable",
        "Read-only file system", "make the file system writable", settled=True,
    ),
    Fault(
        "out of memory", "a control group of 24 MiB around what logins start", "docker",
        lambda story: story.limit("memory", {"memory.limit_in_bytes": str(24 << 20)}), ("was killed", "free memory"),
        "run-killed", at=DOCKERS_TURN, half=True, controller="memory", each_change=True,
    ),
    Fault(
        "slower than every bound", "a control group with 1 % of a processor, and 90 s for the verb", "docker",
        lambda story: story.limit("cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "1000"}),
        ("takes too long", "took so long"), "run-ended", at=DOCKERS_TURN, half=True, controller="cpu",
    ),
    Fault(
        "network falls silent", "nothing passes, and no connection ends", "docker", lambda story: story.silence(),
        ("not responding", "120 s", "again"), at=MIDDLE["docker"], half=True,
    ),
    Fault(
        "two runs at once", "`pulumi up` of the same stack beside the first", "docker", lambda story: story.second_up(),
        ("currently locked", "wait for the other process"), at=MIDDLE["docker"], reported_by="the second run", ends=0,
        cure="let the first end",
    ),
    Fault(
        "program damaged", "the node program and its copy are emptied while a stack is up, and a setting changes", "kata",
        lambda story: story.damage_program(), ("neither", "pulumi up --replace"), "program-damaged",
        act=lambda story: (story.replace_upload(), story.cure()), settled=True,
        cure="`pulumi up --replace` with the URN of the upload",
    ),
    Fault(
        "two stacks on one node", "`pulumi up` of another stack while the first is up", "program",
        lambda story: story.other_stack_up(), ("node of the stack", "Take the machine out of that stack first"), "node-taken",
        reported_by="the second run", ends=0, settled=True, cure="take the machine out of one of them",
    ),
    Fault(
        "engine killed as it writes the state",
        "the .json.attrs beside the state in a backend of files is empty, as the engine leaves it for a moment", "engine",
        lambda story: story.empty_attributes(), ("failed to load checkpoint", "EOF"), settled=True,
        cure="`rm` that file, which `kata-nodes doctor` names; `make up` does it for stack `local`",
    ),
    Fault(
        "host renamed in the stack", "its name changes in the stack's file while the stack is up, and then back", "program",
        lambda story: story.rename("renamed"), ("left as it is", "under another name too"), ends=0, settled=True,
        cure="not needed: the host is not undone",
    ),
    _site_fault("Kata's archive stalls", "kata-static", "stall", "kata", "kata-download-failed", "timed out"),
    _site_fault("half of Kata's archive", "kata-static", "half", "kata", "kata-download-failed", "ended after", each_change=True),
    _site_fault(
        "Kata's archive has another hash", "kata-static", "altered", "kata", "kata-archive-differs", "sha256", "do not trust"
    ),
    *(_cut(stage, at, each_change=stage == "docker") for stage, at in STAGES),
    *(_engine_killed(stage, at, each_change=stage == "proof") for stage, at in STAGES),
    *(_rebooted(stage, at) for stage, at in STAGES),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What a run saw of one fault."""

    code: str
    seconds: float
    sentence: str


def sentence(printed: str, code: str, says: tuple[str, ...]) -> str:
    """The line that reports the fault, without what differs from run to run."""
    lines = [line.strip() for line in printed.splitlines()]
    marked = [line for line in lines if (f"[{code}]" in line if code else any(word.lower() in line.lower() for word in says))]
    line = marked[-1] if marked else ""
    line = re.sub(r"^.*?error: ", "", line)
    for pattern, word in (
        (r"127\.0\.0\.1:\d+", "HOST"), (r"process \d+", "process N"), (r"\b[0-9a-f]{64}\b", "SUM"), (r"\d+[.\d]* ?s\b", "N s"),
        (r": running \".*$", ""), (r"kata-nodes-debian-\w+", "HOST"), (r"\d+ bytes|\d+ B\b", "N bytes"),
        (r"\b\d+d( \d+h)?\b|\b\d+h( \d+min)?\b", "TIME"), (r"file:\S+", "FILE"),
    ):  # fmt: skip
        line = re.sub(pattern, word, line)
    line = line.replace("|", "\\|")
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


HEAD = """# Faults

Faults of a host and of the engine, and what `pulumi up` or `pulumi destroy` prints about each. A run of the fault suite
(`tests/e2e/test_faults.py`) writes this table: it makes each fault on a real Debian in namespaces, with the real engine, checks
that everything on the host is as it was or as it should be, removes the fault, and has the same command succeed. `make test`
makes some of them, `make test-nightly` all.

Some bounds are shorter in the copy of the program that the suite runs, so that they are reached within seconds (`SHORTER` in
`tests/e2e/fault_story.py`). Two faults are not made as they happen. A namespace keeps the kernel's clock, so a wrong clock is
made by a repository that is dated a year ahead or behind. And a node that is rebooted keeps its kernel, its boot id and whatever
was not yet on its disk, while all its processes end and its systemd starts again.

A fault is met by one of a node's resources (`system`, `upload`, `proof`), by a part of its `-converge` (`program` installs the
node program; `preflight`, `docker`, `kata`), by `destroy`, or by the engine itself.

| fault | made by | met by | code | within | says | cured by |
| --- | --- | --- | --- | --- | --- | --- |
"""


def row(fault: Fault, code: str, within: str, says: str) -> str:
    """One line of the table."""
    return f"| {fault.name} | {fault.cause} | {fault.stage} | {code} | {within} | {says} | {fault.cure} |\n"


def rows(page: str) -> dict[str, list[str]]:
    """The cells of each line of the table, by the fault's name."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in lines]
    return {line[0]: line for line in cells if line[0] not in ("fault", "---")}


def written(page: str, measured: dict[str, Measured]) -> str:
    """The page with what was measured now; what was not stays as it is."""
    known = rows(page)
    text = HEAD
    for fault in FAULTS:
        if fault.name in measured:
            now = measured[fault.name]
            within = next((f"{bound} s" for bound in BOUNDS if now.seconds <= bound), "over 300 s")
            text += row(fault, f"`{now.code}`" if now.code else "", within, now.sentence)
        else:
            text += row(fault, *known.get(fault.name, [""] * 7)[3:6])
    return text
