"""containerd with a root, state and socket of its own: it neither sees nor disturbs another one on the machine.

Its content lives in the cache, so images that were pulled once are there again after `down` and `up`.
"""

import hashlib
import json
import platform
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from cluster import layout, network_namespace, packages, processes
from cluster.network_namespace import BRIDGE, POD_RANGE
from cluster.trouble import Trouble

RUN = Path("/run/llmservice-cluster")
SOCKET = RUN / "containerd.sock"
SANDBOX_IMAGE = "localhost/pause:1"
REGISTRY = "localhost:5000"
_CNI_NETWORK = "llmservice"


def configure() -> Path:
    """Write containerd's configuration, the CNI network and the registry's address; return the first."""
    directory = layout.STATE / "containerd"
    hosts = directory / "certs.d" / REGISTRY.replace("/", "_")
    hosts.mkdir(parents=True, exist_ok=True)
    (hosts / "hosts.toml").write_text(f'server = "http://{REGISTRY}"\n[host."http://{REGISTRY}"]\n')
    (directory / "net.d").mkdir(exist_ok=True)
    (directory / "net.d" / "10-llmservice.conflist").write_text(json.dumps(_cni_network(), indent=2))
    configuration = directory / "config.toml"
    configuration.write_text(f"""\
version = 2
root = "{layout.cache() / "containerd"}"
state = "{RUN / "containerd"}"
oom_score = 0

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX_IMAGE}"
  # Where root lacks CAP_SYS_RESOURCE every sandbox would die on lowering its score.
  restrict_oom_score_adj = true
  # Keeps pods' network namespaces out of the machine's /run/netns.
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{packages.path_of("cni")}"
    conf_dir = "{directory / "net.d"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{packages.path_of("runc")}"
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{directory / "certs.d"}"
""")
    return configuration


def _cni_network() -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(layout.STATE / "containerd" / "addresses"),
    }
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": _CNI_NETWORK, "plugins": [bridge, portmap]}


def ctr(*arguments: str | Path, prefix: Sequence[str] = ()) -> str:
    """Run containerd's own client in the kubelet's containerd namespace; return what it prints."""
    client = [str(packages.path_of("ctr")), "--address", str(SOCKET), "--namespace", "k8s.io"]
    ran = subprocess.run([*prefix, *client, *map(str, arguments)], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise Trouble(f"ctr {' '.join(map(str, arguments))}: {ran.stderr.strip()}")
    return ran.stdout


def answers() -> bool:
    """Tell whether containerd serves its socket."""
    if not SOCKET.exists():
        return False
    try:
        ctr("version")
    except Trouble:
        return False
    return True


def pull(reference: str) -> None:
    """Pull an image from the node's registry as the kubelet would, ahead of the first pod that needs it."""
    certs = layout.STATE / "containerd" / "certs.d"
    ctr("images", "pull", "--hosts-dir", certs, "--plain-http", reference, prefix=network_namespace.prefix())


def import_pause(program: Path) -> None:
    """Import the sandbox image, an otherwise empty one around `program`, unless containerd has it."""
    if SANDBOX_IMAGE in ctr("images", "list", "--quiet").split():
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "pause.tar"
        _write_image(archive, SANDBOX_IMAGE, program)
        ctr("images", "import", archive)
    # Otherwise the kubelet counts it among the images that it may collect.
    ctr("images", "label", SANDBOX_IMAGE, "io.cri-containerd.pinned=pinned")


def _write_image(archive: Path, name: str, program: Path) -> None:
    """Write `archive` in the form of `docker save`: one layer with `program` at its root."""
    layer = BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, program.name, program.read_bytes(), mode=0o755)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, "layer.tar", layer.getvalue())
        _add(tar, "config.json", json.dumps(config).encode())
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, BytesIO(content))


def remove_containers() -> None:
    """Forget every container, so that the next containerd on this root starts with images only."""
    if not answers():
        return
    for kind, delete in (("tasks", ["tasks", "delete", "--force"]), ("containers", ["containers", "delete"])):
        names = ctr(kind, "list", "--quiet").split()
        if names:
            try:
                ctr(*delete, *names)
            except Trouble:
                continue  # what is left is an exited container, which the next kubelet collects


def end_shims() -> None:
    """Kill the shims of our containers: they outlive containerd by design."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and is_shim(_command_line(folder)):
            pid = int(folder.name)
            process = processes.Process(pid, processes.started_ticks(pid) or 0)
            process.end(patience_seconds=0)


def is_shim(command_line: list[str]) -> bool:
    """Tell whether it is a shim of our containerd."""
    return bool(command_line) and "containerd-shim" in command_line[0] and str(SOCKET) in command_line


def _command_line(folder: Path) -> list[str]:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def ours_among(results: list[Path]) -> list[Path]:
    """Return the files about pods of our network, those about their loopback included (NETWORK-POD-INTERFACE)."""
    pods = {file.name.removeprefix(f"{_CNI_NETWORK}-").split("-")[0] for file in results if _is_ours(file)}
    return [file for file in results if pods & set(file.name.split("-"))]


def _is_ours(result: Path) -> bool:
    return result.name.startswith(f"{_CNI_NETWORK}-")


def delete_traces() -> None:
    """Remove the files that CNI keeps at fixed places about our network."""
    results = Path("/var/lib/cni/results")
    for file in ours_among(list(results.iterdir()) if results.exists() else []):
        file.unlink(missing_ok=True)
    for folder in (results, results.parent):
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
