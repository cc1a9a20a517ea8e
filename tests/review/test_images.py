"""CI builds the images that a cluster runs: if this fails, a Containerfile is broken when a person builds it."""

import os
import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_containerfile_is_built_and_one_that_fails_ends_the_job(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/asked\n! [ "$*" = "$FAILING" ]\n')
    docker.chmod(0o755)

    def run(failing: str = "") -> tuple[int, list[str]]:
        (tmp_path / "asked").write_text("")
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILING": failing}
        result = subprocess.run([REPOSITORY / ".github/scripts/images"], env=environment, timeout=60, check=False)
        return result.returncode, (tmp_path / "asked").read_text().splitlines()

    code, calls = run()
    built = set(re.findall(r"--file (\S+)", "\n".join(calls)))
    files = {
        str(file.relative_to(REPOSITORY))
        for folder in ("clusterkit", "images")
        for file in (REPOSITORY / folder).rglob("Containerfile")
    }
    assert code == 0 and built == files
    assert next(line for line in calls if line.startswith("run ")).endswith("kata-nodes-joining:1 --help")
    for line in calls:
        assert run(line)[0] != 0, line


def test_files_of_the_checkout_can_be_read_by_the_images_user() -> None:
    """Docker keeps their modes: an image of a clone that was made under the umask 077 ended with `No module named clusterkit`."""
    stages = (REPOSITORY / "clusterkit/controller/Containerfile").read_text().split("\nFROM ")
    assert "\nRUN chmod -R a+rX /program\n" in stages[1].rpartition("\nCOPY ")[2]
    copies = re.findall(r"^COPY (?!--from=packages )", stages[2], re.MULTILINE)
    assert copies == [] and "\nUSER 65532:65532\n" in stages[2]
