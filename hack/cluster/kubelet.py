"""The kubelet and kube-proxy of the one node, configured to keep to folders, cgroups and a network of their own."""

import json
from pathlib import Path

from cluster import layout
from cluster.certificates import Authority
from cluster.configuration import write
from cluster.daemon import Daemon
from cluster.network_namespace import NODE_ADDRESS, POD_RANGE
from cluster.runtime import SOCKET


def directory() -> Path:
    """Return the kubelet's root."""
    return layout.STATE / "kubelet"


def kubelet(program: Path, authority: Authority, server: str) -> Daemon:
    """Return the kubelet, its certificates and configuration written."""
    node = layout.NODE_NAME
    # Logs, exec and metrics go through this certificate.
    serving = authority.issue("kubelet-serving", f"/CN={node}", (f"DNS:{node}", f"IP:{NODE_ADDRESS}"))
    kubeconfig = authority.kubeconfig("kubelet", f"/O=system:nodes/CN=system:node:{node}", server)
    resolver = write(layout.STATE / "resolv.conf", f"nameserver {NODE_ADDRESS}\n")
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        # A second kubelet on one root would kill the pods that it does not know.
        "cgroupRoot": f"/{node}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "podLogsDir": str(layout.STATE / "pod-logs"),
        "volumePluginDir": str(directory() / "volume-plugins"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # The images are the cache; no collection frees disk behind the owner's back.
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "maxPods": 250,
        "oomScoreAdj": 0,
        "healthzPort": 0,
        "syncFrequency": "10s",
        # How late a pod that fills its disk is evicted.
        "volumeStatsAggPeriod": "10s",
    }
    path = write(layout.STATE / "kubelet.json", json.dumps(configuration, indent=2))
    arguments = [f"--config={path}", f"--kubeconfig={kubeconfig}", f"--root-dir={directory()}"]
    arguments += [f"--hostname-override={node}", f"--node-ip={NODE_ADDRESS}", f"--cert-dir={directory() / 'pki'}"]
    return Daemon("kubelet", (str(program), *arguments))


def kube_proxy(program: Path, authority: Authority, server: str) -> Daemon:
    """Return kube-proxy, its configuration written."""
    kubeconfig = authority.kubeconfig("kube-proxy", "/CN=system:kube-proxy", server)
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": layout.NODE_NAME,
        "clusterCIDR": POD_RANGE,
        "oomScoreAdj": 0,
        "iptables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
        # Zero leaves the machine's conntrack settings alone.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    path = write(layout.STATE / "kube-proxy.json", json.dumps(configuration, indent=2))
    return Daemon("kube-proxy", (str(program), f"--config={path}"))


def delete_traces(links: Path = Path("/var/log/containers")) -> None:
    """Remove the links to our pods' logs, the one thing a kubelet writes outside the folders it is given."""
    if not links.exists():
        return
    for link in links.iterdir():
        if link.is_symlink() and layout.STATE in link.readlink().parents:
            link.unlink()
    if not any(links.iterdir()):
        links.rmdir()
