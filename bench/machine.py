"""What a result was measured on, and how much of the machine others used meanwhile.

Names no host and no path: a result is for publication. Every figure is None where the system does not tell.
"""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("fastpar", "joblib", "loky", "mpire", "numpy", "cloudpickle", "xxhash", "scikit-learn")


def describe() -> dict[str, object]:
    """The machine, the interpreter and the versions of all contenders."""
    return {
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "cpu": _cpu_model(),
        "n_cpus": os.cpu_count(),
        "affinity": _affinity(),
        "load": load(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "switch_interval_s": sys.getswitchinterval(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def load() -> float | None:
    """Load average of the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_model() -> str | None:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _affinity() -> list[int] | None:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _version(package: str) -> str | None:
    if package == "fastpar":  # a checkout may run uninstalled
        import fastpar

        return fastpar.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


class Neighbours:
    """Watches how much CPU time goes to others, from the moment it is made.

    Child processes of ours count once they have been waited for; those that still run count as others.
    """

    def __init__(self) -> None:
        self._busy_s = _machine_busy_s()
        self._own_s = _own_cpu_s()
        self._since_s = os.times().elapsed

    def share(self) -> float | None:
        """CPU time of others, and time stolen by the host, as a share of all CPUs since then."""
        busy_s, elapsed_s = _machine_busy_s(), os.times().elapsed - self._since_s
        if busy_s is None or self._busy_s is None or elapsed_s <= 0:
            return None
        others_s = busy_s - self._busy_s - (_own_cpu_s() - self._own_s)
        return round(max(0.0, others_s) / (elapsed_s * (os.cpu_count() or 1)), 3)


def _machine_busy_s() -> float | None:
    lines = _lines("/proc/stat")
    if not lines:
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, lines[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    return sum(os.times()[:4])
