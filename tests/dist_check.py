"""Checks what a release uploads: the sdist holds what git has, and makes the same wheel as the working tree.

PYTHON tests/dist_check.py DIST, where DIST holds one sdist and one wheel; PYTHON has ``build`` and hatchling.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = "torchelastic_otel/"


def of_git() -> set[str] | None:
    """Return the files that git has; None where this is no checkout (an unpacked sdist)."""
    command = ["git", "-C", str(PROJECT), "ls-files", "-z"]
    if not (PROJECT / ".git").exists():
        return None
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(filter(None, listed.split("\0")))


def of_wheel(wheel: Path) -> dict[str, bytes]:
    """Return a wheel's files by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Return the names that only one of them has, or that say another thing in each."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def main() -> None:
    """Look into both, and build the wheel again from the sdist."""
    dist = Path(sys.argv[1])
    [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")
    version = sdist.name.removeprefix("torchelastic_otel-").removesuffix(".tar.gz")
    assert wheel.name == f"torchelastic_otel-{version}-py3-none-any.whl", (sdist.name, wheel.name)

    with tempfile.TemporaryDirectory() as directory:
        with tarfile.open(sdist) as archive:
            archive.extractall(directory, filter="data")
        [unpacked] = Path(directory).iterdir()
        inside = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
        inside.remove("PKG-INFO")
        expected = of_git()
        if expected is not None:
            assert inside == expected, f"missing: {expected - inside}; not in git: {inside - expected}"
        for name in inside:
            assert (unpacked / name).read_bytes() == (PROJECT / name).read_bytes(), name
        sys.stdout.write(f"{sdist.name}: {len(inside)} files{', all that git has' if expected else ''}\n")

        built = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", "again"]
        subprocess.run(built, cwd=unpacked, stdout=subprocess.DEVNULL, check=True)
        contents = of_wheel(wheel)
        assert differing(contents, of_wheel(unpacked / "again" / wheel.name)) == []

    metadata = f"torchelastic_otel-{version}.dist-info/"
    strangers = [name for name in contents if not name.startswith((PACKAGE, metadata))]
    assert strangers == [], strangers
    sources = {str(path.relative_to(PROJECT / "src")) for path in (PROJECT / "src").rglob("*.py")}
    assert {name for name in contents if name.endswith(".py")} == sources
    assert {PACKAGE + "py.typed", metadata + "licenses/LICENSE"} <= contents.keys()
    sys.stdout.write(f"{wheel.name}: {len(contents)} files, the same when built from the sdist\n")

    notes = [sys.executable, str(PROJECT / ".ci" / "release_notes.py"), f"v{version}"]
    subprocess.run(notes, stdout=subprocess.DEVNULL, check=True)
    sys.stdout.write(f"CHANGELOG.md: has a section for {version}\n")


if __name__ == "__main__":
    main()
