"""Everything whose length others decide is read with a limit. Lost if these fail: the memory of the machine that reads."""

from pathlib import Path

import pytest

from tests.package.bounds import Call, calls, walk

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = "it is a file of this very package"
BELOW = "the client only connects: clusterkit/api/client.py reads each answer, up to clusterkit/api/answers.py:MAX_ANSWER"
ALLOWED = {
    "clusterkit/api/kubeconfig.py:_client": BELOW,
    "clusterkit/controller/api.py:Api.__init__": BELOW,
    "components/package.py:version": OURS,
    "components/package.py:metadata": OURS,
    "delivery/bundle.py:_files": OURS,
    "local/parts.py:from_set_up": "it reads lines up to MAX_LINE and keeps the last one, and MAX_OWN of the answer",
    "nodekit/host/capture.py:capture": "it is the limit: `follow` reads the pipes in pieces and keeps only as much as it may",
    "nodekit/host/kata_download.py:unpack": "zstd's output goes through tarfile to the disk, up to MAX_UNPACKED",
    "plugins/command/local.py:run": "`_read` takes the pipes in pieces, and Output.feed ends the command at STREAM_LIMIT",
    "plugins/command/remote.py:run.start": "`_read` takes its streams in pieces, and Output.feed ends it at STREAM_LIMIT",
    "plugins/command/remote.py:_probe": "it reads in pieces, up to _ENVIRONMENT_LIMIT",
}
"""Function -> why a call in it may stay that has no limit of its own. Every other reads with one:

a program with nodekit.host.process.run or nodekit.host.capture.capture, a file with nodekit.host.reading or
nodekit.host.files.read_bytes, a stream with `read(SIZE)`.
"""


def test_nothing_is_read_without_a_limit() -> None:
    unlimited = [call for call in walk(REPOSITORY) if call.where not in ALLOWED]
    assert not unlimited, "\n".join(f"{call.where}, line {call.line} keeps {call.kept}" for call in unlimited)


def test_no_exception_outlives_its_call() -> None:
    assert not set(ALLOWED) - {call.where for call in walk(REPOSITORY)}


@pytest.mark.parametrize(
    "planted",
    [
        "subprocess.run(argv, capture_output=True)",
        "subprocess.run(argv, stdout=subprocess.PIPE)",
        "subprocess.run(argv, **options)",
        "subprocess.Popen(argv, stderr=PIPE)",
        "subprocess.check_output(argv)",
        "subprocess.getoutput(line)",
        "os.popen(line).read()",
        "process.communicate()",
        "process.stdout.readlines()",
        "asyncio.create_subprocess_exec(*argv)",
        "loop.subprocess_exec(protocol, *argv)",
        "link.ssh.run(line)",
        "Path(name).read_text()",
        "Path(name).read_text(errors='replace')",
        "Path(name).read_bytes()",
        "open(name).read()",
        "open(name).read(-1)",
        "open(name).read(None)",
        "sys.stdin.read()",
        "sys.stdin.readline()",
        "json.load(file)",
        "tomllib.load(file)",
        "urllib.request.urlopen(address).read()",
        "urllib.request.urlretrieve(address)",
        "json.loads(answer.data)",
        "client.ApiClient()",
        "urllib3.PoolManager().request('GET', address)",
        "[stream.read() for stream in streams]",
    ],
)
def test_a_new_read_without_a_limit_is_found(tmp_path: Path, planted: str) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "new.py").write_text(f"class New:\n    async def method(self):\n        return {planted}\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/new.py").write_text(planted)
    places = {(call.where, call.line) for call in walk(tmp_path)}
    assert places == {("local/new.py:New.method", 3)}


@pytest.mark.parametrize("planted", ["from subprocess import run", "import subprocess as programs", "from json import load"])
def test_a_name_cannot_hide_a_call(planted: str) -> None:
    assert [call.where for call in calls("new.py", planted)] == ["new.py:"]


@pytest.mark.parametrize(
    "planted",
    [
        "run(argv, timeout=5)",
        "capture(argv, timeout=5, limit=10)",
        "subprocess.run(argv, check=True)",
        "subprocess.Popen(argv, stdout=log)",
        "file.read(SIZE)",
        "stream.read(amt=SIZE)",
        "read(place, LIMIT)",
        "read_text(place, LIMIT)",
        "files.read_bytes(root, path)",
        "json.loads(text)",
    ],
)
def test_what_has_a_limit_is_left_alone(planted: str) -> None:
    unlimited: list[Call] = list(calls("new.py", planted))
    assert not unlimited
