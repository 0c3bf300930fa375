"""A throw-away certificate authority and the kubeconfigs of those who hold its certificates."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster.configuration import write

VALID_DAYS = 365


@dataclass(frozen=True)
class KeyPair:
    """The files of one certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """One certificate authority and the folder in which everything it signs is kept."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.directory / "ca.crt"

    def create(self) -> None:
        """Make the authority, unless it is there."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.certificate.exists():
            extensions = ["-addext", "basicConstraints=critical,CA:TRUE"]
            extensions += ["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
            _request(KeyPair(self.certificate, self.directory / "ca.key"), "/CN=llmservice-throw-away-ca", extensions)

    def issue(self, name: str, subject: str, alternative_names: tuple[str, ...] = ()) -> KeyPair:
        """Return the key pair kept as `name`, signed for `subject` when it is not there yet.

        `subject` is in openssl's form ("/O=system:masters/CN=admin"), an alternative name "DNS:..." or "IP:...".
        """
        pair = KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        if not pair.certificate.exists():
            signing = ["-CA", str(self.certificate), "-CAkey", str(self.directory / "ca.key")]
            extensions = ["-addext", "basicConstraints=critical,CA:FALSE"]
            extensions += ["-addext", "extendedKeyUsage=serverAuth,clientAuth"]
            if alternative_names:
                extensions += ["-addext", f"subjectAltName={','.join(alternative_names)}"]
            _request(pair, subject, [*signing, *extensions])
        return pair

    def kubeconfig(self, name: str, subject: str, server: str) -> Path:
        """Return a kubeconfig with which the holder of `subject` talks to `server`."""
        pair = self.issue(name, subject)
        path = self.directory / f"{name}.kubeconfig"
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "llmservice", "cluster": {"server": server, "certificate-authority": str(self.certificate)}}
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "llmservice", "context": {"cluster": "llmservice", "user": name}}],
            "current-context": "llmservice",
        }
        write(path, json.dumps(config, indent=2))
        path.chmod(0o600)
        return path


def _request(pair: KeyPair, subject: str, arguments: list[str]) -> None:
    # The distribution's own openssl.cnf adds extensions that contradict ours.
    configuration = pair.certificate.parent / "openssl.cnf"
    configuration.write_text("[req]\ndistinguished_name = subject\n[subject]\n")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", str(VALID_DAYS), "-subj", subject, "-keyout", str(pair.key), "-out", str(pair.certificate)]
    subprocess.run([*command, "-config", str(configuration), *arguments], check=True, capture_output=True)
