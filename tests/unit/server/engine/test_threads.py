from pathlib import Path

import pytest

from inference_server.engine.threads import cpu_quota, openmp_environment


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        pytest.param({"cpu.max": "200000 100000\n"}, "0::/\n", 2.0, id="v2, the container's own root"),
        pytest.param({"cpu.max": "max 100000\n"}, "0::/\n", None, id="v2, no limit"),
        pytest.param(
            {"pod/cpu.max": "150000 100000\n", "pod/server/cpu.max": "max 100000\n"},
            "0::/pod/server\n",
            1.5,
            id="v2, the limit stands at the pod",
        ),
        pytest.param(
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            "4:memory:/kubepods/x\n3:cpu,cpuacct:/kubepods/x\n",
            0.5,
            id="v1, the host's path is not visible inside",
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu:/\n", None, id="v1, no limit"
        ),
        pytest.param({}, "", None, id="no cgroup at all"),
    ],
)
def test_the_cpu_quota(files: dict[str, str], membership: str, quota: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    write(tmp_path / "membership", membership)

    assert cpu_quota(tmp_path / "cgroup", tmp_path / "membership") == quota


def test_openmp_threads_sleep_while_they_wait() -> None:
    assert openmp_environment(3)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert openmp_environment(3)["OMP_NUM_THREADS"] == "3"
