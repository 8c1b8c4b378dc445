"""Build the documentation as a site: `make docs`. The pages are the ones that the tests execute, in the same places.

They are copied into build/pages as they lie in the repository, with every file that they link, so that each relative link means on the
site what it means in the repository. A warning, such as a broken link, ends the build.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"
BUILD = ROOT / "build"
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def sources() -> dict[str, Path]:
    """Return each page: its place on the site and its file."""
    folders = [ROOT / "examples", ROOT / "examples" / "java", ROOT / "deploy"]
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(folder / "README.md" for folder in folders)]
    own = {str(page.relative_to(ROOT)): page for page in pages if SITE not in page.parents}
    return own | {page.name: page for page in SITE.glob("*.md")}


def linked(page: Path) -> list[Path]:
    """Return the files of the repository that a page links, other pages aside."""
    targets = [(page.parent / target).resolve() for target in LINK.findall(page.read_text())]
    return [target for target in targets if target.is_file() and target.suffix != ".md" and target.is_relative_to(ROOT)]


def stage(folder: Path) -> None:
    """Copy the pages and what they link."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(SITE / "site.css", folder / "site.css")
    for place, page in sources().items():
        copies = {place: page} | {str(file.relative_to(ROOT)): file for file in linked(page)}
        for name, file in copies.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def main() -> int:
    """Build the site; returns the exit code."""
    stage(BUILD / "pages")
    shutil.copyfile(SITE / "zensical.toml", BUILD / "zensical.toml")
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical), "build", "--clean", "--strict", "--config-file", str(BUILD / "zensical.toml")]
    code = subprocess.run(command, check=False, cwd=BUILD).returncode
    if code == 0:
        print(f"The site is in {BUILD / 'site'}: open index.html.")
    return code


if __name__ == "__main__":
    sys.exit(main())
