"""The processors and physical cores that this process may use, and slots: names of locks, each for one training."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

SYSFS_CPUS = Path("/sys/devices/system/cpu")
CGROUP_MOUNT = Path("/sys/fs/cgroup")
CGROUPS_OF_SELF = Path("/proc/self/cgroup")


def slots(processes: int | None = None) -> tuple[str, ...]:
    """Names of `processes` slots, by default one for each physical core that this process may use.

    Processes share slots by taking locks with these names (`Store.lease`). A name contains a hash of the machine's
    name, so that machines with a common store have different slots. `processes` may exceed the number of cores.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes: expected 1 or more, got {processes}")
    names = [f"{machine()}-cpu-{core}" for core in physical_cores()]
    if processes is not None:
        names += [f"{machine()}-extra-{i}" for i in range(processes - len(names))]
        names = names[:processes]
    return tuple(names)


def machine() -> str:
    """The name of this machine, hashed."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def physical_cores(sysfs: Path = SYSFS_CPUS) -> tuple[int, ...]:
    """A logical processor of each physical core in this process's CPU affinity, as many as its CPU quota allows."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(_physical_count())
    first_of_core: dict[str, int] = {}
    for cpu in allowed:
        try:
            siblings = (sysfs / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
        except OSError:
            siblings = f"only {cpu}"
        first_of_core.setdefault(siblings, cpu)
    cores = list(first_of_core.values())
    return tuple(cores[: _within(cpu_quota(), len(cores))])


def processors() -> int:
    """The number of logical processors that this process may use, by its CPU affinity and its quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _within(cpu_quota(), count)


def _within(quota: float | None, count: int) -> int:
    return count if quota is None else max(1, min(count, int(quota)))


def cpu_quota(cgroups: Path = CGROUPS_OF_SELF, mount: Path = CGROUP_MOUNT) -> float | None:
    """CPU time per second that the control groups (cgroups) of this process allow; None if there is no limit."""
    try:
        lines = cgroups.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # In a container the path may be the host's, while the mount shows the container's own group at its root.
        own = path.strip("/")
        if controllers == "":
            tops = [mount, mount / "unified"]
        elif "cpu" in controllers.split(","):
            tops = [mount / controllers, mount / "cpu"]
        else:
            continue
        for top in tops:
            folder = top / own
            for place in [folder, *folder.parents]:
                if place != top and top not in place.parents:
                    break
                if (limit := _limit(place)) is not None:
                    limits.append(limit)
    return min(limits, default=None)


def _limit(group: Path) -> float | None:
    """CPU time per second that the cgroup in the folder `group`, of version 1 or 2, allows; None if unlimited."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _physical_count() -> int:
    """The number of physical cores, on a system that cannot restrict a process to some of its cores."""
    if sys.platform == "darwin":
        try:
            done = subprocess.run(["sysctl", "-n", "hw.physicalcpu"], capture_output=True, text=True, check=True)
            return max(1, int(done.stdout))
        except (OSError, ValueError, subprocess.CalledProcessError):
            pass
    return os.cpu_count() or 1
