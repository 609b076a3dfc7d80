"""A copy of a clean root to install packages in, and what the tests of packages say of it."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

# What dpkg and adduser keep for themselves.
KEPT = re.compile(
    r"(var/lib/dpkg|var/log|var/cache|proc|run|tmp)(/|$)"
    r"|etc/((passwd|group|shadow|gshadow|subuid|subgid)-?|\.pwd\.lock)$"
)


class Defect(Exception):
    """What a package does otherwise than it should."""


def expect(found, expected, what):
    if found != expected:
        raise Defect(f"{what}: expected {expected!r}, found {found!r}")


def run(*command, **options):
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        raise Defect(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Root:
    """A root of its own, that is thrown away."""

    def __init__(self, template):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="netmon-debian-"))
        run("cp", "-a", "--reflink=auto", f"{template}/.", self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)

    def do(self, *command):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        return run("unshare", "-mpf", f"--root={self.path}", "--mount-proc", *command, env=environment)

    def install(self, *packages):
        for package in packages:
            shutil.copy(package, self.path / "tmp")
        # Without a terminal nobody can answer: an edited configuration must be kept all the same.
        return self.do("dpkg", "--force-confdef", "-i", *(f"/tmp/{os.path.basename(package)}" for package in packages))

    def tree(self):
        found = {}
        for directory, directories, files in os.walk(self.path):
            for name in directories + files:
                path = pathlib.Path(directory, name)
                inside = str(path.relative_to(self.path))
                if not KEPT.match(inside):
                    found[inside] = (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_gid)
        return found

    def mode(self, inside):
        """The mode, the owner and the group of a file, as a person would read them."""
        return self.do("stat", "-c", "%a %U:%G", inside).strip()

    def accounts(self):
        files = [(self.path / "etc" / name).read_text() for name in ("passwd", "group")]
        return {line.split(":")[0] for text in files for line in text.splitlines()}
