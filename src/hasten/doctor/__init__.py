"""What this host has, what of it slows serving, and how many threads it can use well."""

from hasten.doctor.executors import ExecutorSizing, Layout, size_executors
from hasten.doctor.findings import Finding, findings
from hasten.doctor.host import Host, observe
from hasten.doctor.io_pool import IoPool, size_io_pool

__all__ = [
    "ExecutorSizing",
    "Finding",
    "Host",
    "IoPool",
    "Layout",
    "findings",
    "observe",
    "size_executors",
    "size_io_pool",
]
