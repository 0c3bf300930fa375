"""What the cluster tool decides from what it finds: whose a process, a mount, a file or the node is."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster import binaries, daemon, holder, layout, mounts, packages, processes, runtime, volumes
from cluster.certificates import Authority
from cluster.configuration import write
from cluster.trouble import Trouble


def test_a_mount_below_goes_before_the_one_it_lies_in() -> None:
    table = "a /var/lib/x tmpfs rw 0 0\nb /var/lib/x/pods/1 tmpfs rw 0 0\nc /var/lib/xy tmpfs rw 0 0\nd / ext4 rw 0 0\n"
    assert mounts.below([Path("/var/lib/x")], table) == [Path("/var/lib/x/pods/1"), Path("/var/lib/x")]


def test_a_recycled_process_id_is_not_ours() -> None:
    mine = processes.started_ticks(os.getpid())
    assert mine is not None
    assert processes.Process(os.getpid(), mine).is_running()
    assert not processes.Process(os.getpid(), mine + 1).is_running()


def test_a_recorded_process_is_found_until_it_is_ended(tmp_path: Path) -> None:
    process = processes.start(["sleep", "60"], tmp_path / "log", outlives_caller=False)
    processes.record(process, tmp_path / "run.json")
    assert processes.recorded(tmp_path / "run.json") == process
    process.end(patience_seconds=5)
    assert processes.recorded(tmp_path / "run.json") is None


def test_a_process_with_many_threads_is_waited_for_to_its_last_thread(tmp_path: Path) -> None:
    program = (
        "import threading, time\n"
        "for _ in range(100): threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print('started', flush=True)"
    )
    process = processes.start([sys.executable, "-c", program], tmp_path / "log", outlives_caller=False)
    deadline = time.monotonic() + 10
    while "started" not in processes.tail(tmp_path / "log") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def test_a_process_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from cluster import processes\n"
        "process = processes.start(['sleep', '60'], Path(sys.argv[1]) / 'log', outlives_caller=False)\n"
        "processes.record(process, Path(sys.argv[1]) / 'run.json')\n"
        "import os; os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(layout.CHECKOUT / "hack")}
    subprocess.run(["python3", "-c", script, str(tmp_path)], env=environment, check=False)
    deadline = time.monotonic() + 5
    while processes.recorded(tmp_path / "run.json") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "run.json").exists()
    assert processes.recorded(tmp_path / "run.json") is None


@pytest.mark.parametrize(
    ("command_line", "ours"),
    [
        pytest.param(
            ["/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-address", str(runtime.SOCKET)],
            True,
            id="ours",
        ),
        pytest.param(
            ["/usr/bin/containerd-shim-runc-v2", "-address", "/run/containerd/containerd.sock"], False, id="another's"
        ),
        pytest.param(["/usr/bin/vi", str(runtime.SOCKET)], False, id="no shim"),
        pytest.param([], False, id="a kernel thread"),
    ],
)
def test_only_shims_of_our_containerd_are_ours(command_line: list[str], ours: bool) -> None:
    assert runtime.is_shim(command_line) is ours


def test_network_results_of_other_networks_stay() -> None:
    results = [
        Path(name) for name in ("llmservice-a1-eth0", "cni-loopback-a1-lo", "podman-b2-eth0", "cni-loopback-b2-lo")
    ]
    assert runtime.ours_among(results) == results[:2]


def volume(name: str, phase: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": phase}}


def test_only_our_released_volumes_are_emptied() -> None:
    ours, bound, theirs = volume("local-00", "Released"), volume("local-01", "Bound"), volume("nfs", "Released")
    assert volumes.released({"items": [ours, bound, theirs]}) == [ours]


def test_volume_names_sort_and_are_unique() -> None:
    assert len(set(volumes.names())) == volumes.COUNT
    assert volumes.names() == sorted(volumes.names())


def test_an_unchanged_configuration_is_not_written_again(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "same")
    os.utime(path, (1, 1))
    write(path, "same")
    assert path.stat().st_mtime == 1
    write(path, "other")
    assert path.read_text() == "other"


def test_binaries_are_kept_by_what_they_are_built_from(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module m")
    before = binaries.module_key(tmp_path)
    (tmp_path / "README").write_text("does not count")
    assert binaries.module_key(tmp_path) == before
    (tmp_path / "go.sum").write_text("counts")
    assert binaries.module_key(tmp_path) != before


def test_a_kubeconfig_names_files_that_exist(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.create()
    path = authority.kubeconfig("admin", "/O=system:masters/CN=admin", "https://127.0.0.1:6443")
    assert '"server": "https://127.0.0.1:6443"' in path.read_text()
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", str(authority.certificate), str(tmp_path / "admin.crt")],
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0


def test_a_missing_package_without_apt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_SEARCH_PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Trouble, match=r"lacks runc.*no apt-get"):
        packages.ensure([packages.Package("runc", "runc")])


def test_a_service_does_not_start_while_its_package_is_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("as it was")
    with packages._no_service_starts(policy):
        assert subprocess.run([str(policy)], check=False).returncode == 101
    assert policy.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [policy]


def test_another_checkout_is_told_who_holds_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layout, "STATE", tmp_path / "state")
    monkeypatch.setattr(holder, "_MUTEX", tmp_path / "lock")
    mine = processes.Process(os.getpid(), processes.started_ticks(os.getpid()) or 0)
    processes.record(mine, tmp_path / "state" / "run" / "kubelet.json")
    assert daemon.running() == {"kubelet": mine}
    monkeypatch.setattr(layout, "CHECKOUT", Path("/home/first"))
    holder.claim(42)
    with holder.alone():
        pass
    monkeypatch.setattr(layout, "CHECKOUT", Path("/home/second"))
    with pytest.raises(Trouble, match=r"checkout /home/first \(process 42"), holder.alone():
        pass
    with holder.alone(even_if_held=True):
        pass
