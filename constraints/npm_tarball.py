"""Write the JavaScript package as the tarball that npm installs: the same files give the same bytes, whoever builds it.

    python constraints/npm_tarball.py TARGET_FOLDER

It holds what `files` of package.json names, the licence, and package.json with the version of this project.
"""

import gzip
import io
import json
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from image_bill import own_version

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "service" / "server" / "web" / "static" / "browser"
MODE = 0o644
TIME_S = 499_162_500  # 1985-10-26T08:15:00Z, which npm gives every file


def contents() -> dict[str, bytes]:
    """Return the files of the package by their path in it."""
    manifest = json.loads((PACKAGE / "package.json").read_bytes())
    files = {"LICENSE": (ROOT / "LICENSE").read_bytes()}
    for name in manifest["files"]:
        for path in sorted((PACKAGE / name).rglob("*")) if (PACKAGE / name).is_dir() else [PACKAGE / name]:
            if path.is_file():
                files[path.relative_to(PACKAGE).as_posix()] = path.read_bytes()
    stated = json.dumps({**manifest, "version": own_version()}, indent=2, ensure_ascii=False) + "\n"
    return {"package.json": stated.encode(), **dict(sorted(files.items()))}


def write(target: Path) -> Path:
    """Write batchproof-VERSION.tgz into `target`; return it."""
    files = contents()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size, entry.mode, entry.mtime = len(content), MODE, TIME_S
            archive.addfile(entry, io.BytesIO(content))
    target.mkdir(parents=True, exist_ok=True)
    tarball = target / f"batchproof-{json.loads(files['package.json'])['version']}.tgz"
    tarball.write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))
    return tarball


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.stdout.write(f"{write(Path(sys.argv[1]))}\n")
