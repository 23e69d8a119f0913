"""How many cores this process may use: affinity, quota and what an outer crew leaves."""

import os

import pytest

from XME._pool import cores


@pytest.fixture
def groups(tmp_path):
    def make(memberships, files):
        (tmp_path / "self").write_text(memberships)
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path / "cgroup", tmp_path / "self"

    return make


NO_LIMIT = 1 << 30


@pytest.mark.parametrize(
    ("memberships", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, NO_LIMIT),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"}, 1),
        ("0::/../other\n", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "50000", "cpu/d/cpu.cfs_period_us": "100000"}, 1),
        ("4:cpu:/d\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, NO_LIMIT),
        ("0::/\n", {"cpu.max": "nonsense"}, NO_LIMIT),
        ("0::/\n", {}, NO_LIMIT),
    ],
)
def test_the_smallest_quota_counts(groups, memberships, files, expected):
    assert cores._by_quota(*groups(memberships, files)) == expected


def test_no_cgroups_at_all(tmp_path):
    assert cores._by_quota(tmp_path, tmp_path / "nothing") == NO_LIMIT


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_counts():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores.available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_worker_may_use_its_share_only():
    try:
        cores.limit_cores(1)
        assert cores.available_cores() == 1
        cores.limit_cores(0)
        assert cores.available_cores() == 1
    finally:
        cores.limit_cores(None)
