"""TLS for both ends: the files that libvirt's daemons and clients have, checked, and made a context of.

Raises SystemRefused and WireError in libvirt's words. What is not here: names that a server lets in
(`virtsnap.server.tls`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from pathlib import Path

from virtsnap.model.errors import SystemRefused, VirtsnapError
from virtsnap.model.frozen import dataclass
from virtsnap.wire.errors import FROM_RPC, WireError

HANDSHAKE_SECONDS = 10.0
VERIFIED = b"\1"
"""What a server of libvirt's sends when it has looked at the client's certificate."""
_CA = Path("/etc/pki/CA")
_OWN = Path("/etc/pki/libvirt")
_SYSTEM_ERROR = 38
_AUTH_FAILED = 45
_NOT_VERIFIED = "Failed to verify peer's certificate"
_NOT_YET, _EXPIRED, _WRONG_HOST, _WRONG_ADDRESS = 9, 10, 62, 64
"""Of OpenSSL's reasons those that libvirt has words of its own for."""


@dataclass(frozen=True)
class Credentials:
    """Paths. A client may have no certificate, nobody needs a list of revoked ones."""

    ca: Path
    certificate: Path | None
    key: Path | None
    crl: Path | None = None


def server_credentials() -> Credentials:
    """Where libvirt's daemon looks when nothing else is said."""
    return Credentials(
        _CA / "cacert.pem",
        _OWN / "servercert.pem",
        _OWN / "private/serverkey.pem",
        _there(_CA / "cacrl.pem"),
    )


def client_credentials(folder: Path | None) -> Credentials:
    """Those of `folder` (pkipath), of the user, or of the host, as libvirt's client looks for them."""
    own = Path.home() / ".pki/libvirt"
    if folder is None and os.geteuid() != 0 and (own / "cacert.pem").exists():
        folder = own
    if folder is not None:
        certificate, key = folder / "clientcert.pem", folder / "clientkey.pem"
        found = Credentials(folder / "cacert.pem", certificate, key, _there(folder / "cacrl.pem"))
    else:
        certificate, key = _OWN / "clientcert.pem", _OWN / "private/clientkey.pem"
        found = Credentials(_CA / "cacert.pem", certificate, key, _there(_CA / "cacrl.pem"))
    if _there(found.certificate) is None or _there(found.key) is None:
        return Credentials(found.ca, None, None, found.crl)
    return found


def server_context(files: Credentials, *, verify: bool = True, sanity: bool = True) -> ssl.SSLContext:
    """For who listens: clients show a certificate of `ca`, unless not to `verify`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, files)
    # Whoever comes again is looked at again: his certificate may be revoked or expired by then.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if sanity:
        _check_own(files, "server")
    return context


def client_context(files: Credentials, *, verify: bool = True, sanity: bool = True) -> ssl.SSLContext:
    """For who connects: the server shows a certificate of `ca` for its host name, unless not to `verify`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, files)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if sanity and files.certificate is not None:
        _check_own(files, "client")
    return context


def handshake_error(error: OSError, host: str) -> VirtsnapError:
    """Why a client and a server cannot agree, as libvirt's client says it."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return WireError(_SYSTEM_ERROR, FROM_RPC, f"TLS handshake failed {why(error)}")
    reason = error.verify_message
    if error.verify_code in (_WRONG_HOST, _WRONG_ADDRESS):
        reason = f"Certificate [session] owner does not match the hostname {host}"
    return WireError(_AUTH_FAILED, FROM_RPC, f"authentication failed: {_NOT_VERIFIED}: {reason}")


def why(error: Exception) -> str:
    """What there is to say of it: asyncio's errors of a peer that hangs up are empty."""
    said = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return said or str(error) or "Connection reset by peer"


def _there(path: Path | None) -> Path | None:
    return path if path is not None and path.exists() else None


def _load(context: ssl.SSLContext, files: Credentials) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A CA that another one has signed is enough, as for libvirt.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(_readable("CA certificate", files.ca))
    except ssl.SSLError as error:
        raise SystemRefused(f"Unable to import CA certificate {files.ca}: {why(error)}") from error
    if files.crl is not None:
        try:
            context.load_verify_locations(_readable("certificate revocation list", files.crl))
        except ssl.SSLError as error:
            reason = why(error)
            raise SystemRefused(f"Unable to set x509 CRL: {files.crl}: {reason}") from error
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if files.certificate is None or files.key is None:
        return
    _readable("certificate", files.certificate)
    _readable("private key", files.key)
    try:
        # Without a password it would ask for one at the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise SystemRefused(
            f"Unable to set x509 key and certificate: {files.key}, {files.certificate}: {why(error)}"
        ) from error


def _readable(what: str, path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SystemRefused(f"Cannot read {what} '{path}': {error.strerror}") from error
    return path


def _check_own(files: Credentials, side: str) -> None:
    """Would the other side take our certificate? Asked of one that has our CA, in memory."""
    assert files.certificate is not None
    assert files.key is not None
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connecting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connecting.check_hostname = False
    connecting.verify_mode = ssl.CERT_NONE
    ours, judge = (serving, connecting) if side == "server" else (connecting, serving)
    serving.load_cert_chain(files.certificate, files.key, password="")
    if side == "client":
        ours.load_cert_chain(files.certificate, files.key, password="")
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    judge.load_verify_locations(files.ca)
    judge.verify_mode = ssl.CERT_REQUIRED
    try:
        _shake_hands(serving, connecting)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            said = f"The {side} certificate {files.certificate} has expired"
        elif error.verify_code == _NOT_YET:
            said = f"The {side} certificate {files.certificate} is not yet active"
        else:
            said = (
                f"Our own certificate {files.certificate} failed validation against {files.ca}:"
                f" {error.verify_message}"
            )
        raise SystemRefused(said) from error


def _shake_hands(serving: ssl.SSLContext, connecting: ssl.SSLContext) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [connecting.wrap_bio(back, there), serving.wrap_bio(there, back, server_side=True)]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)


def cut_off(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, of whichever kind. Quiet when it was closed before."""
    # Python 3.11.2, which is Debian 12's, stumbles over one with TLS that was closed twice.
    with contextlib.suppress(AttributeError):
        writer.transport.abort()
