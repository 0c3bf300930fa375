"""The single-node cluster: brings it up, repairs it, and takes every trace of it away again."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cluster import (
    binaries,
    cgroups,
    daemon,
    dns,
    holder,
    kernel_settings,
    kubelet,
    layout,
    metrics,
    mounts,
    network_namespace,
    packages,
    preflight,
    processes,
    registry,
    runtime,
    volumes,
)
from cluster.controlplane import ControlPlane, Network
from cluster.daemon import Daemon
from cluster.progress import say, step
from cluster.trouble import Trouble

_DAEMONS = frozenset({"containerd", "registry", "coredns", "kube-proxy", "volumes", "kubelet"})
_CONTAINERD_SECONDS = 30.0
_NODE_READY_SECONDS = 60.0


def control_plane() -> ControlPlane:
    """Return the node's control plane, on fixed ports of the namespace."""
    network = Network(
        etcd_port=2379,
        etcd_peer_port=2380,
        api_port=6443,
        bind_address="0.0.0.0",  # noqa: S104 - all there is in the namespace is the node's own
        advertise_address=network_namespace.NODE_ADDRESS,
        prefix=network_namespace.prefix(),
    )
    # The node's name resolves nowhere, its address does not need to.
    extra = {"kube-apiserver": ["--kubelet-preferred-address-types=InternalIP"]}
    return ControlPlane(layout.STATE / "control-plane", network, extra, outlives_caller=True)


def is_up() -> bool:
    """Tell whether the node was brought up; single programs may have died since."""
    return network_namespace.exists() and control_plane().kubeconfig.exists()


def up(*, with_metrics: bool = False, gpus: int | None = None) -> None:
    """Bring the node up, or start again what has died of it.

    Raises:
        Trouble: the machine lacks something, another checkout has the node, or a program failed.
    """
    preflight.check_node()
    packages.ensure(packages.NODE)
    programs = binaries.ensure([*binaries.NODE, *(["metrics-server"] if with_metrics else [])])
    with holder.alone(), step("starting the node"):
        if layout.STATE.exists() and not is_up():
            _take_down()  # half of a node, from a run that was interrupted or before a reboot
        _prepare()
        plane = control_plane()
        holder.claim(os.getpid())
        plane.start()
        _start_daemons(plane, programs, with_metrics=with_metrics)
        _apply_manifests(plane, with_metrics=with_metrics)
        _wait_ready(plane)
        if gpus is not None:
            _give_gpus(plane, gpus)
        etcd = plane.process("etcd")
        holder.claim(etcd.pid if etcd else os.getpid())


def _prepare() -> None:
    layout.STATE.mkdir(parents=True, exist_ok=True)
    layout.STATE.chmod(0o755)
    runtime.RUN.mkdir(exist_ok=True)
    kernel_settings.remember(layout.STATE / "kernel-settings.json")
    network_namespace.create()
    cgroups.create()
    volumes.make_directories()


def _start_daemons(plane: ControlPlane, programs: dict[str, Path], *, with_metrics: bool) -> None:
    authority, kubeconfig = plane.authority, plane.kubeconfig
    containerd = Daemon("containerd", (str(packages.path_of("containerd")), "--config", str(runtime.configure())))
    containerd.ensure()
    registry.daemon().ensure()
    dns.daemon(programs["coredns"], kubeconfig).ensure()
    kubelet.kube_proxy(programs["kube-proxy"], authority, plane.url).ensure()
    recycle = (sys.executable, str(layout.CHECKOUT / "hack" / "cluster" / "main.py"), "recycle-volumes")
    Daemon("volumes", recycle).ensure()
    if with_metrics:
        metrics.daemon(programs["metrics-server"], kubeconfig).ensure()
    deadline = time.monotonic() + _CONTAINERD_SECONDS
    while not runtime.answers():
        if containerd.process() is None or time.monotonic() > deadline:
            raise Trouble(f"containerd does not answer:\n{processes.tail(containerd.log)}")
        time.sleep(0.1)
    runtime.import_pause(programs["pause"])
    kubelet.kubelet(programs["kubelet"], authority, plane.url).ensure()


def _apply_manifests(plane: ControlPlane, *, with_metrics: bool) -> None:
    marker = layout.STATE / "manifests-applied"
    if not marker.exists():
        _apply(plane, volumes.manifests())
        marker.touch()
    if with_metrics:
        _apply(plane, metrics.manifests())


def _apply(plane: ControlPlane, manifests: list[dict[str, Any]]) -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=listed)


def _wait_ready(plane: ControlPlane) -> None:
    deadline = time.monotonic() + _NODE_READY_SECONDS
    jsonpath = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    while True:
        answer = ""
        with contextlib.suppress(Trouble):
            answer = plane.kubectl("get", "node", layout.NODE_NAME, "-o", jsonpath)
        dead = _DAEMONS - daemon.running().keys()
        if dead or time.monotonic() > deadline:
            what = f"{', '.join(sorted(dead))} ended by itself" if dead else "the node does not become ready"
            log = layout.STATE / "log" / f"{next(iter(dead), 'kubelet')}.log"
            raise Trouble(f"{what}; from {log}:\n{processes.tail(log)}")
        if answer == "True":
            return
        time.sleep(0.2)


def _give_gpus(plane: ControlPlane, count: int) -> None:
    """Have the node claim `count` GPUs: pods schedule by them, no device appears.

    A kubelet sets it to zero when it starts, so it is done at each `up`.
    """
    gpus = {"nvidia.com/gpu": str(count)}
    patch = json.dumps({"status": {"capacity": gpus, "allocatable": gpus}})
    plane.kubectl("patch", "node", layout.NODE_NAME, "--subresource=status", "--type=merge", "-p", patch)


def kill(*names: str) -> None:
    """Kill programs of the node at once, as a crash would; `up` starts them again.

    Raises:
        Trouble: one of them is no program of the node, or does not run, or another checkout has the node.
    """
    with holder.alone():
        running = _running()
        if missing := sorted(set(names) - running.keys()):
            there = ", ".join(sorted(running)) or "none"
            raise Trouble(f"no such program runs: {', '.join(missing)}; there are {there}")
        for name in names:
            running[name].end()


def _running() -> dict[str, processes.Process]:
    """Return the processes of the node by the names of their programs."""
    plane = control_plane()
    brain = {name: found for name in binaries.CONTROL_PLANE if (found := plane.process(name))}
    return daemon.running() | brain


def down(*, force: bool = False) -> None:
    """Take the node away; the cache stays.

    Raises:
        Trouble: another checkout has the node and it is not forced.
    """
    if not _is_anything_left():
        say("no node is here")
        return
    with holder.alone(even_if_held=force), step("taking the node down"):
        _take_down()


def _is_anything_left() -> bool:
    return layout.STATE.exists() or runtime.RUN.exists() or network_namespace.exists()


def _take_down() -> None:
    daemons = daemon.running()
    # The kubelet and the controllers go first: they would start again what is stopped below.
    for name in sorted(daemons, key=lambda name: name == "containerd"):
        if name != "containerd":
            daemons[name].end()
    control_plane().stop()
    runtime.remove_containers()
    cgroups.kill()
    runtime.end_shims()
    if "containerd" in daemons:
        daemons["containerd"].end(patience_seconds=5)
    if network_namespace.exists():
        _end_visitors()
    mounts.unmount([layout.STATE, runtime.RUN])
    network_namespace.delete()
    cgroups.delete()
    kernel_settings.restore(layout.STATE / "kernel-settings.json")
    kubelet.delete_traces()
    runtime.delete_traces()
    for folder in (layout.STATE, runtime.RUN):
        shutil.rmtree(folder, ignore_errors=True)
    left = [folder for folder in (layout.STATE, runtime.RUN) if folder.exists()]
    if left:
        raise Trouble(f"could not remove {', '.join(map(str, left))}: something still uses it")


def _end_visitors() -> None:
    """End what else runs in the namespace, a shell or a forgotten port-forward, but not who asked for this."""
    listed = subprocess.run(
        [str(packages.path_of("ip")), "netns", "pids", layout.NODE_NAME], capture_output=True, text=True, check=False
    )
    ours = _ancestry(os.getpid())
    for pid in (int(line) for line in listed.stdout.split()):
        ticks = processes.started_ticks(pid)
        if pid not in ours and ticks is not None:
            processes.Process(pid, ticks).end(patience_seconds=1)


def _ancestry(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


def recycle_volumes() -> None:
    """Run the loop that empties released volumes; a daemon of the node."""
    plane = control_plane()
    volumes.recycle_for_ever(plane.url, plane.ca_file, plane.client_certificate, plane.client_key)


def environment() -> dict[str, str]:
    """Return what a command inside needs: API server, its audit log, a kubectl, and no proxy on the way."""
    inside = f"localhost,127.0.0.1,.svc,.cluster.local,{network_namespace.POD_RANGE},10.96.0.0/16"
    kubectl = str(binaries.kubectl().parent)
    path = os.environ.get("PATH", "")
    return {
        "KUBECONFIG": str(control_plane().kubeconfig),
        "LLMSERVICE_AUDIT_LOG": str(control_plane().audit_log),
        "PATH": path if kubectl in path.split(":") else f"{kubectl}:{path}",
        "no_proxy": inside,
        "NO_PROXY": inside,
    }


def status() -> str:
    """Return what a person wants to know of the node, one fact a line."""
    who = holder.current()
    if who is None:
        return "no node runs on this machine"
    plane = control_plane()
    lines = [f"checkout    {who.checkout} (since {who.since})", f"kubeconfig  {plane.kubeconfig}"]
    lines += [f"state       {layout.STATE}", f"cache       {layout.cache()}"]
    alive = _running()
    lines += [f"running     {', '.join(f'{name} ({process.pid})' for name, process in sorted(alive.items()))}"]
    if missing := sorted({*binaries.CONTROL_PLANE, *_DAEMONS} - alive.keys()):
        lines.append(f"NOT running {', '.join(missing)}: `up` starts them again")
    return "\n".join(lines)
