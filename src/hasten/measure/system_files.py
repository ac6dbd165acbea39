"""What Linux tells in /proc and /sys, below a root that tests can choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["SystemFiles", "cpu_list"]

_CGROUPS = "/sys/fs/cgroup"
#: The kernel's default.
_PERIOD_US = 100_000


def cpu_list(text: str) -> list[int]:
    """Read the kernel's lists of numbers.

    >>> cpu_list("0-2,5")
    [0, 1, 2, 5]
    """
    numbers: list[int] = []
    for part in text.replace("\n", ",").split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal():
            numbers += range(int(first), int(last if last.isdecimal() else first) + 1)
    return numbers


@dataclass(frozen=True)
class SystemFiles:
    """Paths are absolute, as on the machine itself; what is not there is None or empty."""

    root: Path = Path("/")

    def read(self, path: str) -> str | None:
        """Return the text of a file without white space around it."""
        try:
            text = (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return text.strip()

    def number(self, path: str) -> int | None:
        """Return the number that is all of a file."""
        text = self.read(path) or ""
        return int(text) if text.removeprefix("-").isdecimal() else None

    def selected(self, path: str) -> str | None:
        """Return the one in brackets of a choice such as ``always [madvise] never``."""
        _, bracket, rest = (self.read(path) or "").partition("[")
        return rest.partition("]")[0] if bracket else None

    def matching(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted."""
        found = sorted(self.root.glob(pattern.lstrip("/")))
        return [f"/{path.relative_to(self.root)}" for path in found]

    def core_of(self, cpu: int) -> str:
        """Return the hyper-threads of the core that this one belongs to, as a list."""
        path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        return self.read(path) or str(cpu)

    def cpu_model(self) -> str | None:
        """Return the processor's name."""
        for line in (self.read("/proc/cpuinfo") or "").split("\n"):
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
        return None

    def cgroup_quota(self) -> float | None:
        """Processors whose time the cgroups allow, of either version; None without a limit."""
        return min(self._quotas(), default=None)

    def _quotas(self) -> Iterator[float]:
        for folder in self._cgroups(""):
            limit, _, period = (self.read(f"{folder}/cpu.max") or "max").partition(" ")
            if limit != "max":
                yield int(limit) / int(period or _PERIOD_US)
        for folder in self._cgroups("cpu"):
            limit_us = self.number(f"{folder}/cpu.cfs_quota_us") or -1
            if limit_us > 0:
                yield limit_us / (self.number(f"{folder}/cpu.cfs_period_us") or _PERIOD_US)

    def cgroup_memory_bytes(self) -> int | None:
        """Bytes of memory the cgroups allow, of either version; None without a limit."""
        limits = [self.number(f"{folder}/memory.max") for folder in self._cgroups("")]
        limits += [
            self.number(f"{folder}/memory.limit_in_bytes") for folder in self._cgroups("memory")
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    def throttled_periods(self) -> int:
        """Periods in which a quota stopped this process, or others that share it."""
        folders = [*self._cgroups(""), *self._cgroups("cpu")]
        counts = [
            int(line.split()[1])
            for folder in folders
            for line in (self.read(f"{folder}/cpu.stat") or "").split("\n")
            if line.startswith("nr_throttled ")
        ]
        return max(counts, default=0)

    def _cgroups(self, controller: str) -> Iterator[str]:
        """Yield folders of the cgroup of this process and of those it is in.

        ``controller`` is empty for version 2, else one of version 1.
        """
        for line in (self.read("/proc/self/cgroup") or "").split("\n"):
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if path and controller in controllers.split(","):
                root = PurePosixPath(_CGROUPS) / controllers
                within = root / path.lstrip("/")
                yield str(within)
                yield from (str(above) for above in within.parents if above.is_relative_to(root))
                return
