"""etcd, API server, controller manager and scheduler: alone on loopback for tests, or as the brain of the node.

Everything a control plane writes lives below one directory. State is thrown away with it, so etcd does not sync to
disk and nothing is asked to shut down gently.
"""

import json
import random
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster import binaries, processes
from cluster.certificates import Authority
from cluster.trouble import Trouble

SERVICE_RANGE = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
# From the range kept for documentation: the API server refuses to advertise loopback, and here nobody calls it.
NOBODY = "192.0.2.1"
READY_SECONDS = 60.0
ESTABLISHED_SECONDS = 30.0

_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""


def _free_ports(count: int) -> list[int]:
    # Below the kernel's ephemeral range, so that no outgoing connection takes one between this look and the start.
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 32000)  # noqa: S311 - nothing secret about a port
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@dataclass(frozen=True)
class Network:
    """Where a control plane listens, and the command prefix that enters its network namespace."""

    etcd_port: int
    etcd_peer_port: int
    api_port: int
    bind_address: str = "127.0.0.1"
    advertise_address: str = NOBODY
    prefix: tuple[str, ...] = ()

    @classmethod
    def loopback(cls) -> Self:
        """Return a network on free ports of this machine's loopback."""
        etcd_port, etcd_peer_port, api_port = _free_ports(3)
        return cls(etcd_port, etcd_peer_port, api_port)


@dataclass
class ControlPlane:
    """A Kubernetes control plane below `directory`; as a context manager it runs while the body does.

    `extra_arguments` maps a component's name ("kube-apiserver", ...) to flags that it gets besides ours; a repeated
    flag wins. Start it on a thread that lives as long as it should: the kernel ends the components with that thread.
    """

    directory: Path
    network: Network = field(default_factory=Network.loopback)
    extra_arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    outlives_caller: bool = False

    def __post_init__(self) -> None:
        """Derive the places of what callers ask for."""
        self.directory = self.directory.absolute()
        self.authority = Authority(self.directory / "pki")
        self.audit_log = self.directory / "audit.log"
        self.url = f"https://127.0.0.1:{self.network.api_port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.authority.directory / "admin.kubeconfig"

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that signed the API server's."""
        return self.authority.certificate

    @property
    def client_certificate(self) -> Path:
        """The administrator's certificate; its key is `client_key`."""
        return self.authority.directory / "admin.crt"

    @property
    def client_key(self) -> Path:
        """The key of the administrator's certificate."""
        return self.authority.directory / "admin.key"

    def log(self, component: str) -> Path:
        """Return where `component` logs."""
        return self.directory / "log" / f"{component}.log"

    def kubeconfig_for(self, user: str, *groups: str) -> Path:
        """Return a kubeconfig of another user, with no more rights than RBAC gives to the user and the groups."""
        organisations = "".join(f"/O={group}" for group in groups)
        # A slash would end the field in openssl's form of a subject; service accounts have none, groups neither.
        return self.authority.kubeconfig(user.replace(":", "-"), f"{organisations}/CN={user}", self.url)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and return what it prints.

        Raises:
            Trouble: it failed; the message is what it wrote to standard error.
        """
        command = [*self.network.prefix, str(binaries.kubectl()), "--kubeconfig", str(self.kubeconfig), *arguments]
        ran = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise Trouble(f"kubectl {' '.join(arguments)}: {ran.stderr.strip()}")
        return ran.stdout

    def wait_established(self, definition: str) -> None:
        """Return when objects of a CustomResourceDefinition can be made.

        Not with `kubectl wait`: that fails on a definition so new that its conditions are null.

        Raises:
            Trouble: it took longer than `ESTABLISHED_SECONDS`.
        """
        deadline = time.monotonic() + ESTABLISHED_SECONDS
        while time.monotonic() < deadline:
            found = json.loads(self.kubectl("get", "crd", definition, "--output", "json"))
            conditions = found.get("status", {}).get("conditions") or ()
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                return
            time.sleep(0.1)
        raise Trouble(f"{definition} is not established after {ESTABLISHED_SECONDS:g} s")

    def __enter__(self) -> Self:
        """Start, and return when it answers."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End every component; the directory stays for whoever wants the logs."""
        self.stop()

    def start(self) -> None:
        """Start the components that do not run; return when the API answers and the controllers work."""
        self.prepare()
        first = ("etcd", "kube-apiserver")
        for component in binaries.CONTROL_PLANE:
            if component not in first:
                # They give up for good where they find no rights yet for a few seconds.
                self._wait_for("/readyz", READY_SECONDS, first)
            self.start_component(component)
        self.wait_ready()

    def prepare(self) -> None:
        """Write the certificates and configurations that are not there yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.authority.create()
        names = ["DNS:localhost", "DNS:kubernetes.default.svc", "DNS:kubernetes.default", "DNS:kubernetes"]
        names += [f"IP:{address}" for address in ("127.0.0.1", KUBERNETES_SERVICE, self.network.advertise_address)]
        self.authority.issue("apiserver", "/CN=kube-apiserver", tuple(names))
        self.authority.issue("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        self.authority.issue("front-proxy", "/CN=front-proxy")
        self.authority.issue("service-accounts", "/CN=service-accounts")
        self.authority.kubeconfig("admin", "/O=system:masters/CN=admin", self.url)
        for component in ("kube-controller-manager", "kube-scheduler"):
            self.authority.kubeconfig(component, f"/CN=system:{component}", self.url)
        (self.directory / "audit-policy.yaml").write_text(_AUDIT_POLICY)
        scheduler = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": self._pki("kube-scheduler.kubeconfig"), "qps": 300, "burst": 600},
            "leaderElection": {"leaderElect": False},
        }
        (self.directory / "scheduler.yaml").write_text(json.dumps(scheduler))

    def start_component(self, component: str) -> None:
        """Start one component unless it runs: also the way back after `stop_component`."""
        if self.process(component) is not None:
            return
        program = binaries.ensure([component])[component]
        arguments = [*self._arguments(component), *self.extra_arguments.get(component, ())]
        process = processes.start(
            [*self.network.prefix, program, *arguments], self.log(component), outlives_caller=self.outlives_caller
        )
        processes.record(process, self._pid_file(component))

    def stop_component(self, component: str) -> None:
        """Kill one component at once, as a crash would."""
        process = self.process(component)
        if process is not None:
            process.end()

    def stop(self) -> None:
        """Kill every component; those that write go first."""
        for component in reversed(binaries.CONTROL_PLANE):
            self.stop_component(component)
        processes.reap()  # Those that ended by themselves.

    def process(self, component: str) -> processes.Process | None:
        """Return the running process of `component`, if there is one."""
        return processes.recorded(self._pid_file(component))

    def wait_for_end(self, component: str) -> None:
        """Return when `component` no longer runs."""
        while self.process(component) is not None:
            time.sleep(0.5)
            processes.reap()

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Return when the API server is ready and the controller manager has made the first service account.

        Raises:
            Trouble: a component died, or it took longer than `timeout_seconds`.
        """
        for path in ("/readyz", "/api/v1/namespaces/default/serviceaccounts/default"):
            self._wait_for(path, timeout_seconds, binaries.CONTROL_PLANE)

    def _wait_for(self, path: str, timeout_seconds: float, components: Iterable[str]) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self._answers(path):
            self._explain_death(components)
            if time.monotonic() > deadline:
                log = processes.tail(self.log("kube-apiserver"))
                raise Trouble(f"the API server did not answer {path} in {timeout_seconds:.0f} s:\n{log}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Tell whether the API server says so."""
        return self._answers("/readyz")

    def _answers(self, path: str) -> bool:
        if self.network.prefix:
            # Not reachable from the network of this process.
            asked = [*self.network.prefix, "curl", "--silent", "--fail", "--max-time", "2", "--output", "/dev/null"]
            asked += ["--cacert", str(self.ca_file), "--cert", str(self.client_certificate)]
            asked += ["--key", str(self.client_key), f"{self.url}{path}"]
            return subprocess.run(asked, check=False).returncode == 0
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(self.client_certificate, self.client_key)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{self.url}{path}", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _explain_death(self, components: Iterable[str]) -> None:
        for component in components:
            if self.process(component) is None:
                raise Trouble(f"{component} ended by itself:\n{processes.tail(self.log(component))}")

    def _pid_file(self, component: str) -> Path:
        return self.directory / "run" / f"{component}.json"

    def _pki(self, name: str) -> str:
        return str(self.authority.directory / name)

    def _arguments(self, component: str) -> list[str]:
        match component:
            case "etcd":
                return self._etcd()
            case "kube-apiserver":
                return self._apiserver()
            case "kube-controller-manager":
                return self._controller_manager()
            case _:
                return [f"--config={self.directory / 'scheduler.yaml'}", "--secure-port=0"]

    def _etcd(self) -> list[str]:
        client = f"http://127.0.0.1:{self.network.etcd_port}"
        peer = f"http://127.0.0.1:{self.network.etcd_peer_port}"
        return [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str]:
        network = self.network
        alone = ["--endpoint-reconciler-type=none"] if network.advertise_address == NOBODY else []
        return [
            *alone,
            f"--etcd-servers=http://127.0.0.1:{network.etcd_port}",
            f"--bind-address={network.bind_address}",
            f"--secure-port={network.api_port}",
            f"--advertise-address={network.advertise_address}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--tls-cert-file={self._pki('apiserver.crt')}",
            f"--tls-private-key-file={self._pki('apiserver.key')}",
            f"--client-ca-file={self._pki('ca.crt')}",
            f"--kubelet-client-certificate={self._pki('apiserver-kubelet.crt')}",
            f"--kubelet-client-key={self._pki('apiserver-kubelet.key')}",
            f"--kubelet-certificate-authority={self._pki('ca.crt')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._pki('service-accounts.crt')}",
            f"--service-account-signing-key-file={self._pki('service-accounts.key')}",
            f"--requestheader-client-ca-file={self._pki('ca.crt')}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={self._pki('front-proxy.crt')}",
            f"--proxy-client-key-file={self._pki('front-proxy.key')}",
            # Lets a metrics API run as a plain process behind a Service without selector.
            "--enable-aggregator-routing=true",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--audit-policy-file={self.directory / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            # One growing file: a rotation would hide lines from a test that counts writes.
            "--audit-log-maxsize=4000",
        ]

    def _controller_manager(self) -> list[str]:
        kubeconfig = self._pki("kube-controller-manager.kubeconfig")
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={self._pki('service-accounts.key')}",
            f"--root-ca-file={self._pki('ca.crt')}",
            f"--cluster-signing-cert-file={self._pki('ca.crt')}",
            f"--cluster-signing-key-file={self._pki('ca.key')}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--use-service-account-credentials=true",
            # The default of 20 a second makes a thousand services take tens of minutes.
            "--kube-api-qps=300",
            "--kube-api-burst=600",
            "--leader-elect=false",
            "--secure-port=0",
        ]
