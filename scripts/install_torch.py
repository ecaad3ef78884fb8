"""Install PyTorch into the running environment, without accelerator packages where no accelerator is.

On Linux the default PyTorch wheels bring several gigabytes of CUDA packages. A machine without an NVIDIA GPU
does not need them, so this tries, in order: the index given as the first argument, a CPU build that the
user's own pip configuration offers, and last the default wheels, saying so.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

VERSION = "2.13.0"


def pip_install(*arguments: str, quiet: bool = False) -> bool:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdout=output, stderr=output, check=False).returncode == 0


def has_gpu() -> bool:
    smi = shutil.which("nvidia-smi")
    return smi is not None and subprocess.run([smi, "-L"], capture_output=True, check=False).returncode == 0


def main(index: str) -> int:
    if importlib.util.find_spec("torch") is not None:
        return 0
    if index:
        return 0 if pip_install(f"torch=={VERSION}", "--index-url", index) else 2
    if has_gpu() or sys.platform != "linux":
        return 0 if pip_install(f"torch=={VERSION}") else 2
    if pip_install(f"torch=={VERSION}+cpu", quiet=True):
        return 0
    print(
        "No GPU here and no CPU-only build of PyTorch in the configured package indexes: installing the "
        "default build, a large download. To avoid it, interrupt and run make with TORCH_INDEX set to the "
        "CPU wheel index named on PyTorch's install page.",
        file=sys.stderr,
    )
    return 0 if pip_install(f"torch=={VERSION}") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
