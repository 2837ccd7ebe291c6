"""CPU quotas that Linux control groups put on this process: what a container or a systemd slice may use.

A quota may sit at any level between the process's own group and the root of the hierarchy, and each level
binds all below it; so every level that can be seen is read. Both versions are read, since hybrid systems
mount both. Reads files only, keeps no state, any thread may call; what cannot be read sets no limit, for a
container may hide any of these files.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

OCTAL_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}  # proc(5): how mountinfo quotes


class Quota(namedtuple("Quota", ["n_cpus", "source"])):
    """A limit on CPU time: whole CPUs, rounded up, and the text and file that say so."""

    __slots__ = ()
    n_cpus: int
    source: str


class Mount(namedtuple("Mount", ["version", "root", "point"])):
    """A mounted hierarchy: which group (`root`) is seen at which directory (`point`)."""

    __slots__ = ()
    version: int
    root: str
    point: str


#: Where the hierarchies are when mountinfo is hidden or lists none.
USUAL_MOUNTS = (
    Mount(2, "/", "/sys/fs/cgroup"),
    Mount(1, "/", "/sys/fs/cgroup/cpu"),
    Mount(1, "/", "/sys/fs/cgroup/cpu,cpuacct"),
)


def quotas(file_system: str = "/") -> tuple[Quota, ...]:
    """Return the CPU quotas in force, from the process's own group upward.

    Parameters
    ----------
    file_system : str
        The directory that stands for "/"; tests bring their own.

    References
    ----------
    Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst; cgroup_namespaces(7)
    for paths that begin with "/..".
    """
    prefix = file_system.rstrip("/")
    paths = _own_paths(read(f"{prefix}/proc/self/cgroup"))
    mounts = list(_mounts(read(f"{prefix}/proc/self/mountinfo"))) or list(USUAL_MOUNTS)
    found = []
    for version, read_quota in ((2, _quota_v2), (1, _quota_v1)):
        seen = [mount for mount in mounts if mount.version == version]
        for directory in _levels(seen, paths.get(version, "/")):
            quota = read_quota(prefix, directory)
            if quota is not None:
                found.append(quota)
    return tuple(found)


def read(path: str) -> str:
    """Return the file's text, "" when there is none to be had: a missing file is a limit that is not set."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _own_paths(text: str) -> dict[int, str]:
    """Return the group of this process in each version's hierarchy, from /proc/self/cgroup."""
    paths = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif "cpu" in controllers.split(","):
            paths[1] = path
    return paths


def _mounts(text: str) -> Iterator[Mount]:
    """Yield the hierarchies that may carry a CPU controller, from /proc/self/mountinfo."""
    for line in text.splitlines():
        place, _, kind = line.partition(" - ")
        fields, options = place.split(" "), kind.split(" ")
        if len(fields) < 5 or not options[0].startswith("cgroup"):
            continue
        root, point = _unescape(fields[3]), _unescape(fields[4])
        if options[0] == "cgroup2":
            yield Mount(2, root, point)
        elif "cpu" in options[-1].split(","):
            yield Mount(1, root, point)


def _unescape(field: str) -> str:
    if "\\" in field:
        for escape, character in OCTAL_ESCAPES.items():
            field = field.replace(escape, character)
    return field


def _levels(mounts: list[Mount], path: str) -> list[str]:
    """Return the directories of the process's group and of the groups above it, the own group first.

    A mount counts when its root is the process's group or above it: another container's groups may be
    mounted too. When none is, a namespace hides the real path ("/" outside, "/../.." inside), and the mount
    points are all there is to go by.
    """
    levels: dict[str, None] = {}  # an ordered set
    for mount in mounts:
        below = _relative(path, mount.root)
        while below:
            levels[f"{mount.point}/{'/'.join(below)}"] = None
            below.pop()
        if below is not None:
            levels[mount.point] = None
    return list(levels) or list(dict.fromkeys(mount.point for mount in mounts))


def _relative(path: str, root: str) -> list[str] | None:
    """Return the names that lead from `root` down to `path`, None when `path` is not known to be below."""
    names, above = ([name for name in text.split("/") if name] for text in (path, root))
    below = names[len(above) :]
    return below if names[: len(above)] == above and ".." not in below else None


def _quota_v2(prefix: str, directory: str) -> Quota | None:
    path = f"{directory}/cpu.max"
    quota, *period = read(prefix + path).split() or ["max"]  # the file can be empty
    return _quota(quota, period[0] if period else "100000", path)


def _quota_v1(prefix: str, directory: str) -> Quota | None:
    path = f"{directory}/cpu.cfs_quota_us"
    return _quota(read(prefix + path), read(f"{prefix}{directory}/cpu.cfs_period_us"), path)


def _quota(quota: str, period: str, path: str) -> Quota | None:
    """Return the limit of two numbers of microseconds, None for "max", -1 and what is no number."""
    try:
        quota_us, period_us = int(quota), int(period)
    except ValueError:
        return None
    if quota_us <= 0 or period_us <= 0:
        return None
    return Quota(-(-quota_us // period_us), f"{quota_us} of every {period_us} us in {path}")
