"""Certificates for tests, made by the program openssl: an authority, and who has one of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_LEAF = (
    "basicConstraints=critical,CA:FALSE\n"
    "keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage={use}\n{names}"
)


class Authority:
    """Keeps its certificate and all it makes in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl here")
        self.folder = folder
        self.name = name
        folder.mkdir(exist_ok=True)
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}-key.pem"
        _openssl(
            *("req", "-x509", *_new_key(self._key), "-out", self.certificate, "-days", "30"),
            *("-subj", f"/O=Lab/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def server(self, name: str, alternatives: str) -> Path:
        """A certificate for `alternatives` (DNS:...,IP:...); its key is in NAME-key.pem."""
        return self._sign(name, f"/O=Lab/CN={name}", "serverAuth", f"subjectAltName={alternatives}\n")

    def client(self, name: str, subject: str, *, days: int = 30, trusts: tuple[Authority, ...] = ()) -> Path:
        """The folder (pkipath) of a client; it trusts this authority, or those that are named."""
        certificate = self._sign(name, subject, "clientAuth", "", days)
        home = self.stranger(f"pki-{name}", trusts)
        shutil.copy(certificate, home / "clientcert.pem")
        shutil.copy(self.folder / f"{name}-key.pem", home / "clientkey.pem")
        return home

    def stranger(self, name: str, trusts: tuple[Authority, ...] = ()) -> Path:
        """The folder of a client without a certificate."""
        home = self.folder / name
        home.mkdir()
        (home / "cacert.pem").write_text("".join(one.certificate.read_text() for one in trusts or (self,)))
        return home

    def revoked(self, certificate: Path) -> Path:
        """A list of those that do not count any more, with this one on it."""
        (self.folder / "index").write_text("")
        config = self.folder / "ca.conf"
        config.write_text(
            f"[ca]\ndefault_ca=it\n[it]\ndatabase={self.folder}/index\ndefault_md=sha256\n"
            "default_crl_days=30\n"
        )
        signer = ("-config", config, "-cert", self.certificate, "-keyfile", self._key)
        _openssl("ca", *signer, "-revoke", certificate)
        made = self.folder / "crl.pem"
        _openssl("ca", *signer, "-gencrl", "-out", made)
        return made

    def _sign(self, name: str, subject: str, use: str, names: str, days: int = 30) -> Path:
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        made = self.folder / f"{name}.pem"
        extensions.write_text(_LEAF.format(use=use, names=names))
        key = self.folder / f"{name}-key.pem"
        _openssl("req", *_new_key(key), "-out", request, "-utf8", "-subj", subject)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-out", made, "-days", str(days), "-extfile", extensions),
        )
        return made


def _new_key(path: Path) -> tuple[str | Path, ...]:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
