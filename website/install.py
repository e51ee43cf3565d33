"""Make .venv and install requirements.txt into it, unless that is done already.

Called by make with the system's Python, so it uses the standard library alone. It is safe to
interrupt (the stamp is written last), to repeat, and to start twice at once (the second waits).
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed.txt"
OLDEST, NEWEST = (3, 11), (3, 13)  # what requirements.txt is locked for


def wanted() -> str:
    """A digest of all that decides what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("requirements.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def works() -> bool:
    """Whether .venv has a Python like this one with a pip that starts."""
    code = "import sys, pip; print(sys.version_info[:2])"
    try:
        found = subprocess.run(
            [VENV / "bin" / "python", "-c", code], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return found.stdout.strip() == str(sys.version_info[:2])


def install() -> None:
    """Bring .venv up to requirements.txt."""
    if not works():
        print("Making .venv ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    print("Installing requirements.txt into .venv (minutes the first time) ...", flush=True)
    pip = [VENV / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", "requirements.txt"], cwd=ROOT, check=True)


def main() -> int:
    """Install when something changed; print what went wrong and return 1 when it fails."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print(
            f"Python {sys.version.split()[0]} cannot install requirements.txt, which is locked for "
            "3.11 to 3.13; name another one, as in: make book PYTHON=python3.11"
        )
        return 1
    with (ROOT / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another installation into .venv ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        digest = wanted()
        if STAMP.exists() and STAMP.read_text() == digest and works():
            return 0
        STAMP.unlink(missing_ok=True)
        try:
            install()
        except subprocess.CalledProcessError as error:
            print(f"The installation failed ({error}); see above, then run make again.")
            return 1
        STAMP.write_text(digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
