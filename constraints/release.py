"""Build the release of the last commit, wheel and source distribution, and check both as a user would: `make release`.

    python constraints/release.py build/release [--repository URL] [--without-training]

Each is built twice and must have the same bytes; its metadata and its page must be what an index accepts (twine), and Helm must accept the
chart (release_chart.py). Then each is installed into a fresh environment, and release_check.py uses it there: import, version, predict, serve, and from the wheel also a
training run. With --repository, the metadata name the project's pages, and links of README.md lead there: on an index,
relative links lead nowhere.
"""

import argparse
import gzip
import hashlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from install import torch

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
ZONES = ("UTC0", "XYZ-13")  # of the two builds, beside another folder and other hashes of texts
LINK = re.compile(r"(\]\()(?!https?://|#)([^)]+\))")
PAGES = {
    "Changelog": "blob/{tag}/CHANGELOG.md",
    "Documentation": "blob/{tag}/docs/README.md",
    "Issues": "issues",
    "Source": "tree/{tag}",
}


class ReleaseError(Exception):
    """Why there is no release; one sentence."""


def main() -> int:
    """Build, check and print what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--repository", default="", help="the address of the project's repository, for links")
    parser.add_argument("--without-training", action="store_true", help="do not install PyTorch and train")
    options = parser.parse_args()
    try:
        files = release(options.target.resolve(), options.repository.rstrip("/"))
        check_metadata(files)
        check_chart()
        for path in files:
            training = path.suffix == ".whl" and not options.without_training
            check_installed(path, ["cpu"])
            if training:
                check_installed(path, ["cpu", "training"])
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (options.target / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    return 0


def release(target: Path, repository: str = "") -> list[Path]:
    """Build wheel and source distribution of the last commit into the empty folder `target`, each twice; return them."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        built = [build(Path(scratch, zone), repository, zone) for zone in ZONES]
        for first, second in zip(*built, strict=True):
            if first.name != second.name or first.read_bytes() != second.read_bytes():
                raise ReleaseError(f"two builds of {first.name} differ")
            shutil.copyfile(first, target / first.name)
    return sorted(target.iterdir())


def build(scratch: Path, repository: str, zone: str) -> list[Path]:
    """Build both once, from the files of the commit, in a time zone; return them."""
    source, made = scratch / "source", scratch / "made"
    source.mkdir(parents=True)
    made.mkdir()
    epoch = git("log", "-1", "--format=%ct").decode().strip()
    archive = git("-c", "tar.umask=0022", "archive", "--format=tar", "HEAD")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="tar")
    if repository:
        link(source, repository)
    before = os.umask(0o022)  # the modes of generated files stand in the wheel
    try:
        for kind in ("build_sdist", "build_wheel"):
            command = [sys.executable, "-c", BUILD, kind, str(made)]
            environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": zone}
            done = subprocess.run(command, cwd=source, check=False, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise ReleaseError(f"{kind} failed: {done.stderr.strip().splitlines()[-1]}")
    finally:
        os.umask(before)
    for sdist in made.glob("*.tar.gz"):
        sdist.write_bytes(normalised(sdist.read_bytes(), int(epoch)))
    return sorted(made.iterdir())


def link(source: Path, repository: str) -> None:
    """Name the project's pages in pyproject.toml, and have the links of README.md lead there."""
    project = source / "pyproject.toml"
    (version,) = re.findall(r'__version__ = "(.+)"', (source / "batchproof" / "__init__.py").read_text())
    pages = "".join(f'{name} = "{repository}/{page.format(tag=f"v{version}")}"\n' for name, page in PAGES.items())
    project.write_text(
        project.read_text().replace("\n[project.scripts]", f"\n[project.urls]\n{pages}\n[project.scripts]")
    )
    readme = source / "README.md"
    readme.write_text(LINK.sub(rf"\1{repository}/blob/v{version}/\2", readme.read_text()))


def normalised(archive: bytes, epoch: int) -> bytes:
    """Return a .tar.gz with sorted members, one time, no owner and no builder's mask."""
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as found,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as written,
    ):
        for member in sorted(found, key=lambda one: one.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime, member.pax_headers = epoch, {}
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            written.addfile(member, found.extractfile(member) if member.isfile() else None)
    return gzip.compress(plain.getvalue(), 9, mtime=epoch)


def check_metadata(files: list[Path]) -> None:
    """Ask twine whether an index would accept the metadata and show the description."""
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"twine refuses the metadata: {done.stdout.strip()} {done.stderr.strip()}")


def check_chart() -> None:
    """Have Helm lint and render the chart, where the release environment has it."""
    if importlib.util.find_spec("helm_python") is None:
        print("chart: not read by Helm, which has no build for this machine", flush=True)
        return
    command = [sys.executable, str(Path(__file__).with_name("release_chart.py"))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"the chart does not hold: {done.stderr.strip()}")
    print(done.stdout.strip(), flush=True)


def check_installed(path: Path, extras: list[str]) -> None:
    """Install a file with its extras into a fresh environment, at the pinned versions, and use it there."""
    pins = "all.txt" if "training" in extras else "serving.txt"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        requirement = f"batchproof[{','.join(extras)}] @ {path.as_uri()}"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        used = [python, str(Path(__file__).with_name("release_check.py")), str(ROOT), *extras]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if "training" in extras and torch(python, str(ROOT / "constraints" / pins)):
            raise ReleaseError("PyTorch was not installed; WITHOUT_TRAINING=1 leaves the training step out")
        for command in ([*install, "--constraint", str(ROOT / "constraints" / pins), requirement], used):
            done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
            if done.returncode:
                raise ReleaseError(f"{path.name} [{','.join(extras)}]: {done.stdout}{done.stderr}")
    print(f"{path.name} [{', '.join(extras)}]: installed and used", flush=True)


def git(*words: str) -> bytes:
    """Return what git prints."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout


if __name__ == "__main__":
    sys.exit(main())
