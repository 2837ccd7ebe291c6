"""CPU counting, on file trees that stand for machines and containers."""

import math
import os
from contextvars import copy_context

import pytest

from fastpar import _cgroup, cpu

V2_MOUNT = "29 23 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "33 25 0:30 {root} {point} rw,nosuid shared:9 - cgroup cgroup rw,{controllers}\n"
OTHER_MOUNTS = "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n24 23 0:5 / /proc rw - proc proc rw\n"


def v2_mount(root="/", point="/sys/fs/cgroup"):
    return V2_MOUNT.format(root=root, point=point)


def v1_mount(root="/", point="/sys/fs/cgroup/cpu,cpuacct", controllers="cpu,cpuacct"):
    return V1_MOUNT.format(root=root, point=point, controllers=controllers)


def v2(directory, text):
    return {f"{directory}/cpu.max": text}


def v1(directory, quota, period="100000\n"):
    return {f"{directory}/cpu.cfs_quota_us": quota, f"{directory}/cpu.cfs_period_us": period}


def plant(root, files):
    for path, text in files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def membership(*lines):
    return {"/proc/self/cgroup": "".join(f"{line}\n" for line in lines)}


def mountinfo(*mounts):
    return {"/proc/self/mountinfo": OTHER_MOUNTS + "".join(mounts)}


CG = "/sys/fs/cgroup"
CPU1 = f"{CG}/cpu,cpuacct"

#: name: (files, the CPUs of each quota found, own group first, version 2 before version 1)
LAYOUTS = {
    "no files at all": ({}, []),
    "v2 on bare metal, no quota": (membership("0::/user.slice/a.scope") | mountinfo(v2_mount()), []),
    "v2, own group limited": (
        membership("0::/a.slice/b.scope")
        | mountinfo(v2_mount())
        | v2(f"{CG}/a.slice/b.scope", "200000 100000\n"),
        [2],
    ),
    "v2, systemd slice above is limited": (
        membership("0::/a.slice/b.scope")
        | mountinfo(v2_mount())
        | v2(f"{CG}/a.slice", "150000 100000\n")
        | v2(f"{CG}/a.slice/b.scope", "max 100000\n"),
        [2],
    ),
    "v2, every level limited": (
        membership("0::/a/b/c")
        | mountinfo(v2_mount())
        | v2(f"{CG}/a", "400000 100000")
        | v2(f"{CG}/a/b", "300000 100000")
        | v2(f"{CG}/a/b/c", "800000 100000"),
        [8, 3, 4],
    ),
    "v2, a sibling's quota is not ours": (
        membership("0::/a/b") | mountinfo(v2_mount()) | v2(f"{CG}/a/other", "100000 100000"),
        [],
    ),
    "v2, container with a private namespace": (
        membership("0::/") | mountinfo(v2_mount()) | v2(CG, "250000 100000\n"),
        [3],
    ),
    "v2, container on the host's namespace, own group mounted": (
        membership("0::/docker/abc") | mountinfo(v2_mount(root="/docker/abc")) | v2(CG, "250000 100000\n"),
        [3],
    ),
    "v2, subgroup of the mounted group": (
        membership("0::/docker/abc/job")
        | mountinfo(v2_mount(root="/docker/abc"))
        | v2(CG, "400000 100000\n")
        | v2(f"{CG}/job", "100000 100000\n"),
        [1, 4],
    ),
    "v2, the mount begins above the namespace": (
        membership("0::/") | mountinfo(v2_mount(root="/../..")) | v2(CG, "300000 100000\n"),
        [3],
    ),
    "v2, the process left its namespace": (
        membership("0::/../..") | mountinfo(v2_mount()) | v2(CG, "300000 100000\n"),
        [3],
    ),
    "v2, another container's group is mounted as well": (
        membership("0::/docker/abc")
        | mountinfo(v2_mount(), v2_mount(root="/docker/other", point="/mnt/other"))
        | v2("/mnt/other", "100000 100000\n")
        | v2(f"{CG}/docker/abc", "200000 100000\n"),
        [2],
    ),
    "v2, a similar name is no parent": (
        membership("0::/docker/abcdef")
        | mountinfo(v2_mount(), v2_mount(root="/docker/abc", point="/mnt/abc"))
        | v2("/mnt/abc", "100000 100000\n"),
        [],
    ),
    "v2, empty cpu.max": (membership("0::/") | mountinfo(v2_mount()) | v2(CG, ""), []),
    "v2, cpu.max without a period": (membership("0::/") | mountinfo(v2_mount()) | v2(CG, "200000"), [2]),
    "v2, cpu.max of nonsense": (membership("0::/") | mountinfo(v2_mount()) | v2(CG, "many few\n"), []),
    "v2, less than one CPU": (membership("0::/") | mountinfo(v2_mount()) | v2(CG, "1000 100000\n"), [1]),
    "v2, unusual mount point with a space": (
        membership("0::/a") | mountinfo(v2_mount(point="/c\\040g")) | v2("/c g/a", "200000 50000\n"),
        [4],
    ),
    "v2, no mountinfo": (membership("0::/a") | v2(f"{CG}/a", "200000 100000\n"), [2]),
    "v2, no /proc/self/cgroup": (mountinfo(v2_mount()) | v2(CG, "200000 100000\n"), [2]),
    "v1, Kubernetes pod and container": (
        membership("4:cpu,cpuacct:/kubepods/pod1/c1", "1:name=systemd:/kubepods/pod1/c1")
        | mountinfo(v1_mount(root="/kubepods/pod1/c1"))
        | v1(CPU1, "50000\n"),
        [1],
    ),
    "v1, quota on the parent, none on the own group": (
        membership("4:cpuacct,cpu:/slurm/job_1/step_0")
        | mountinfo(v1_mount())
        | v1(f"{CPU1}/slurm/job_1", "600000\n")
        | v1(f"{CPU1}/slurm/job_1/step_0", "-1\n"),
        [6],
    ),
    "v1, the path is not visible inside": (
        membership("4:cpu:/docker/abc") | mountinfo(v1_mount(root="/elsewhere")) | v1(CPU1, "200000\n"),
        [2],
    ),
    "v1, only cpuset and cpuacct are mounted": (
        membership("4:cpuset:/a")
        | mountinfo(v1_mount(point=f"{CG}/cpuset", controllers="cpuset"))
        | v1(f"{CG}/cpuset", "100000\n"),
        [],
    ),
    "v1, period of zero": (membership("4:cpu:/") | mountinfo(v1_mount()) | v1(CPU1, "100000\n", "0\n"), []),
    "v1, no period": (
        membership("4:cpu:/") | mountinfo(v1_mount()) | {f"{CPU1}/cpu.cfs_quota_us": "100000\n"},
        [],
    ),
    "hybrid, the controller is on v1": (
        membership("9:name=systemd:/x", "2:cpu,cpuacct:/x", "0::/x")
        | mountinfo(v1_mount(), v2_mount(point=f"{CG}/unified"))
        | v1(f"{CPU1}/x", "200000\n"),
        [2],
    ),
    "hybrid, the controller is on v2": (
        membership("1:memory:/x", "0::/x")
        | mountinfo(v1_mount(point=f"{CG}/memory", controllers="memory"), v2_mount(point=f"{CG}/unified"))
        | v2(f"{CG}/unified/x", "200000 100000\n"),
        [2],
    ),
    "torn lines": (
        {"/proc/self/cgroup": "garbage\n::\n0::", "/proc/self/mountinfo": "1 2 - cgroup2\n\n -\n"}
        | v2(CG, "200000 100000"),
        [2],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_quotas(tmp_path, name):
    files, expected = LAYOUTS[name]
    plant(tmp_path, files)
    assert [quota.n_cpus for quota in _cgroup.quotas(str(tmp_path))] == expected


def test_a_quota_says_where_it_was_read(tmp_path):
    plant(tmp_path, membership("0::/a") | mountinfo(v2_mount()) | v2(f"{CG}/a", "150000 100000\n"))
    (quota,) = _cgroup.quotas(str(tmp_path))
    assert quota == (2, "150000 of every 100000 us in /sys/fs/cgroup/a/cpu.max")


def test_an_unreadable_file_sets_no_limit(tmp_path):
    (tmp_path / "proc/self/cgroup").mkdir(parents=True)  # reading a directory fails for root too
    assert _cgroup.quotas(str(tmp_path)) == ()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 16 CPUs, two threads a core, without limits; returns the directory that stands for "/"."""
    for name in (*cpu.MAX_VARIABLES, "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    for n in range(16):
        siblings = f"{n % 8},{n % 8 + 8}\n"
        plant(tmp_path, {f"/sys/devices/system/cpu/cpu{n}/topology/core_cpus_list": siblings})
    return tmp_path


def count(machine, only_physical_cores=False):
    limits = cpu.find_limits(only_physical_cores, str(machine))
    return min(limit.n_cpus for limit in limits if limit.n_cpus is not None)


class TestLimits:
    def test_machine(self, machine):
        assert count(machine) == 16

    def test_affinity(self, machine, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
        assert count(machine) == 3

    @pytest.mark.parametrize("error", [OSError, AttributeError])
    def test_no_affinity_on_this_system(self, machine, monkeypatch, error):
        def refuse(pid):
            raise error

        monkeypatch.setattr(os, "sched_getaffinity", refuse)
        assert count(machine) == 16

    def test_unknown_machine(self, machine, monkeypatch):
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert count(machine) == 1

    def test_quota(self, machine):
        plant(machine, membership("0::/") | mountinfo(v2_mount()) | v2(CG, "250000 100000\n"))
        assert count(machine) == 3

    @pytest.mark.parametrize("name", cpu.MAX_VARIABLES)
    def test_variables(self, machine, monkeypatch, name):
        monkeypatch.setenv(name, " 5 ")
        assert count(machine) == 5

    @pytest.mark.parametrize("text", ["", "many", "0", "-2", "2.5", "9" * 5000, "²"])
    def test_variables_of_nonsense_are_ignored_and_shown(self, machine, monkeypatch, text):
        monkeypatch.setenv("FASTPAR_MAX_CPUS", text)
        assert count(machine) == 16
        (limit,) = [
            limit for limit in cpu.find_limits(False, str(machine)) if limit.name == "FASTPAR_MAX_CPUS"
        ]
        assert limit.n_cpus is None
        assert "ignored" in limit.source

    def test_a_variable_cannot_add_cpus(self, machine, monkeypatch):
        monkeypatch.setenv("FASTPAR_MAX_CPUS", "99")
        assert count(machine) == 16

    def test_slurm(self, machine, monkeypatch):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
        assert count(machine) == 4

    def test_slurm_that_confines_by_affinity(self, machine, monkeypatch):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
        assert count(machine) == 8


class TestPhysicalCores:
    def test_hyperthreads_count_once(self, machine):
        assert count(machine, only_physical_cores=True) == 8

    def test_only_usable_ones_count(self, machine, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 8, 9})
        assert count(machine, only_physical_cores=True) == 2

    def test_a_quota_still_holds(self, machine, monkeypatch):
        monkeypatch.setenv("FASTPAR_MAX_CPUS", "3")
        assert count(machine, only_physical_cores=True) == 3

    def test_older_kernels_name_the_file_differently(self, machine):
        for file in machine.glob("sys/devices/system/cpu/cpu*/topology/core_cpus_list"):
            file.rename(file.with_name("thread_siblings_list"))
        assert count(machine, only_physical_cores=True) == 8

    def test_unknown_topology(self, tmp_path, machine):
        assert count(tmp_path / "nothing", only_physical_cores=True) == 16


class TestCpuCount:
    def test_this_machine(self):
        assert 1 <= cpu.cpu_count() <= os.cpu_count()
        assert 1 <= cpu.cpu_count(True) <= cpu.cpu_count()

    def test_explained(self, monkeypatch):
        monkeypatch.setenv("FASTPAR_MAX_CPUS", "1")
        explained = cpu.cpu_count(explain=True)
        assert explained.count == cpu.cpu_count() == 1
        assert ("FASTPAR_MAX_CPUS", 1, "environment") in explained.reasons
        with pytest.raises(AttributeError):
            explained.count = 2

    def test_reasons_leave_out_what_does_not_decide(self):
        limits = (cpu.Limit("machine", 8, ""), cpu.Limit("affinity", 4, ""), cpu.Limit("X", None, ""))
        assert [limit.name for limit in cpu.CpuCount(4, limits).reasons] == ["affinity"]

    def test_files_are_read_again_when_the_reading_is_old(self, machine, monkeypatch):
        now = 1000.0
        monkeypatch.setattr(cpu, "monotonic", lambda: now)
        assert count(machine) == 16
        plant(machine, membership("0::/") | mountinfo(v2_mount()) | v2(CG, "200000 100000\n"))
        now += cpu.KEEP_S - 0.1
        assert count(machine) == 16
        now += 0.2
        assert count(machine) == 2


class TestShare:
    @pytest.mark.parametrize(
        ("budget", "n_workers", "expected"),
        [
            (8, 3, [3, 3, 2]),
            (8, 8, [1] * 8),
            (2, 4, [1] * 4),
            (7, 1, [7]),
            (1, 1, [1]),
            (128, 5, [26, 26, 26, 25, 25]),
        ],
    )
    def test_remainder_goes_to_the_first(self, budget, n_workers, expected):
        assert [cpu.share(budget, n_workers, rank) for rank in range(n_workers)] == expected

    @pytest.mark.parametrize("budget", range(1, 40))
    def test_nothing_is_left_idle_or_promised_twice(self, budget):
        for n_workers in range(1, 50):
            parts = [cpu.share(budget, n_workers, rank) for rank in range(n_workers)]
            assert sum(parts) == max(budget, n_workers)
            assert max(parts) - min(parts) <= 1
            assert min(parts) == max(1, math.floor(budget / n_workers))


class TestBudget:
    def test_top_level(self):
        assert cpu.budget() == cpu.cpu_count()

    def test_inside_a_worker_thread(self):
        token = cpu.enter_share(3)
        try:
            assert cpu.budget() == 3
            assert copy_context().run(cpu.budget) == 3
        finally:
            cpu.leave_share(token)
        assert cpu.budget() == cpu.cpu_count()

    def test_inside_a_worker_process(self, monkeypatch):
        monkeypatch.setattr(cpu, "_process_share", None)
        cpu.set_process_share(5)
        assert cpu.budget() == 5
        token = cpu.enter_share(2)
        assert cpu.budget() == 2
        cpu.leave_share(token)
        cpu.set_process_share(None)
        assert cpu.budget() == cpu.cpu_count()
