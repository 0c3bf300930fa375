"""CoreDNS for Service names, as a process on the node's address: pods need no DNS pod to start first."""

from pathlib import Path

from cluster import layout
from cluster.configuration import write
from cluster.daemon import Daemon
from cluster.network_namespace import NODE_ADDRESS


def daemon(program: Path, kubeconfig: Path) -> Daemon:
    """Return CoreDNS, its configuration written."""
    text = f"""\
cluster.local in-addr.arpa ip6.arpa {{
    bind {NODE_ADDRESS}
    errors
    kubernetes {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
}}
. {{
    bind {NODE_ADDRESS}
    errors
    # The node has no way out: a plain "no such name" spares pods the wait for one.
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
    configuration = write(layout.STATE / "Corefile", text)
    return Daemon("coredns", (str(program), "-conf", str(configuration)))
