"""swtpm, the TPM of a guest: a process beside each QEMU, and the folder that it keeps its state in.

QEMU has one end of a socket pair, swtpm the other, and both of them end when QEMU does. swtpm works in the
folder that a link in the run folder leads to: the domain's own, or, for a QEMU that is made ready from memory
while another one may still run, one in the run folder. `keep` turns the latter into the former.

Not here: which folder is a domain's (`machine.tpm`), and when a state is copied or goes (`plan.nvram`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
from pathlib import Path

from virtsnap.formats.domain_xml import DomainDefinition, TpmEmulator
from virtsnap.machine.tpm import domain_folder, state_folder, state_name
from virtsnap.model.errors import ErrorCode, Failed
from virtsnap.qemu import process
from virtsnap.store.files import fsync_path, write_atomic

_SETUP = "swtpm_setup"
_GRACE_SECONDS = 10.0


def _link(run_dir: str) -> str:
    return os.path.join(run_dir, "tpm")


def _note(run_dir: str) -> str:
    return os.path.join(run_dir, "swtpm.json")


async def start(
    root: str, definition: DomainDefinition, tpm: TpmEmulator, *, run_dir: str, log_path: str, own: bool
) -> socket.socket:
    """Start the TPM of a QEMU that is about to be started; returns QEMU's end of its control channel.

    `own`: on an empty state in the run folder, which a migration stream will fill. Else on the domain's,
    which is made if there is none. Raises Failed; what was started is ended by `end`.
    """
    program = _program("swtpm")
    assert definition.uuid is not None
    folder = state_folder(root, definition.uuid, tpm)
    try:
        if own:
            folder = os.path.join(run_dir, "tpm.own")
            os.mkdir(folder, mode=0o700)
        elif not os.path.exists(os.path.join(folder, state_name(tpm))):
            await _make_state(definition, tpm, folder, run_dir, log_path)
        os.symlink(folder, _link(run_dir))
    except OSError as error:
        raise Failed(
            f"Could not create TPM directory {folder}: {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error
    if tpm.banks and not own:
        await _set_up(tpm, folder, log_path, "--pcr-banks", ",".join(tpm.banks), "--reconfigure")
    ours, theirs = socket.socketpair()
    log = f"file={log_path}" + ("" if tpm.debug is None else f",level={tpm.debug}")
    argv = [program, "socket", "--ctrl", f"type=unixio,clientfd={theirs.fileno()}"]
    argv += ["--tpmstate", f"dir={_link(run_dir)},mode=0600", "--log", log, "--terminate"]
    argv += ["--tpm2"] if tpm.version == "2.0" else []
    try:
        spawned = process.spawn(argv, pass_fds=[theirs.fileno()], log_path=log_path, cwd=run_dir)
        named = {"pid": spawned.pid, "start_ticks": spawned.start_ticks, "boot_id": spawned.boot_id}
        write_atomic(_note(run_dir), json.dumps(named), durable=False)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours


def end(run_dir: str) -> None:
    """End the TPM of a run folder; quiet when there is none, or when it ended with its QEMU."""
    if not os.path.isdir(run_dir) or not any(name.startswith("tpm") for name in os.listdir(run_dir)):
        return
    try:
        noted = [process.Spawned(**json.loads(Path(_note(run_dir)).read_text(encoding="utf-8")))]
    except (FileNotFoundError, ValueError):
        # A crash came before the note, or in the middle of making the first state.
        noted = process.naming(_link(run_dir))
    for one in noted:
        process.kill(one, signal.SIGTERM)
        if not process.ends(one, _GRACE_SECONDS):
            process.kill(one, signal.SIGKILL)
            process.ends(one, _GRACE_SECONDS)


def keep(run_dir: str, path: str) -> None:
    """What the TPM of a run folder works on becomes the state `path`; may be repeated.

    The guest must stand still: swtpm writes only when it is asked something. Raises Failed.
    """
    link, folder = _link(run_dir), os.path.dirname(path)
    try:
        present = os.readlink(link)
        if present == folder:
            return
        make_folder(folder)
        with contextlib.suppress(FileNotFoundError):
            write_atomic(path, Path(present, os.path.basename(path)).read_bytes())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{link}.new")
        os.symlink(folder, f"{link}.new")
        os.replace(f"{link}.new", link)
    except FileNotFoundError:
        return  # the domain has ended since, and its run folder is gone
    except OSError as error:
        raise Failed(
            f"cannot keep TPM state '{path}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error


def make_folder(state: str) -> None:
    """The folder of a state and those above it, which are nobody else's to look into. Raises OSError."""
    domain = os.path.dirname(state)
    for folder in (os.path.dirname(domain), domain, state):
        os.makedirs(folder, mode=0o700, exist_ok=True)


def remove(folder: str) -> None:
    """Delete all that is kept of a domain's TPM; quiet when there is nothing. Raises Failed."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failed(
            f"Could not delete TPM state '{folder}': {error.strerror}", code=ErrorCode.SYSTEM_ERROR
        ) from error


def forget(root: str, domain_xml: str, *, keep: bool = False, give_up: bool = False) -> None:
    """The domain is no more: what is kept of its TPM goes, or stays, as the definition and the caller say.

    `keep`: what the definition does not ask to be kept. `give_up`: what it does. Raises Failed.
    """
    definition = DomainDefinition.parse(domain_xml)
    tpm = definition.tpm
    if tpm is not None and definition.uuid is not None and (give_up if tpm.persistent else not keep):
        remove(domain_folder(root, definition.uuid))


async def versions() -> tuple[str, ...]:
    """Versions of the TPM that can be had here: '1.2', '2.0'; none where swtpm is not installed."""
    if shutil.which("swtpm") is None or shutil.which(_SETUP) is None:
        return ()
    status, said = await _run(_program(_SETUP), "--print-capabilities")
    try:
        features = json.loads(said)["features"] if status == 0 else ()
    except (ValueError, KeyError):
        features = ()
    return tuple(version for version in ("1.2", "2.0") if f"tpm-{version}" in features)


async def _make_state(
    definition: DomainDefinition, tpm: TpmEmulator, folder: str, run_dir: str, log_path: str
) -> None:
    """A new TPM, with keys and certificates; made in the run folder, then moved: it is whole or not there."""
    if os.geteuid() != 0:
        # libvirt: root's are the system's
        await _checked(log_path, _program(_SETUP), "--create-config-files", "skip-if-exist")
    place = os.path.join(run_dir, "tpm.setup")
    os.mkdir(place, mode=0o700)
    await _set_up(
        tpm,
        place,
        log_path,
        *("--vmid", f"{definition.name}:{definition.uuid}", "--createek", "--create-ek-cert"),
        *("--create-platform-cert", "--lock-nvram", "--not-overwrite"),
    )
    make_folder(folder)
    made = os.path.join(place, state_name(tpm))
    fsync_path(made)
    os.replace(made, os.path.join(folder, state_name(tpm)))
    fsync_path(folder)
    shutil.rmtree(place, ignore_errors=True)


async def _set_up(tpm: TpmEmulator, folder: str, log_path: str, *words: str) -> None:
    kind = ["--tpm2"] if tpm.version == "2.0" else []
    await _checked(
        log_path, _program(_SETUP), *kind, "--tpm-state", f"dir://{folder}", "--logfile", log_path, *words
    )


async def _checked(log_path: str, *argv: str) -> None:
    status, _ = await _run(*argv)
    if status:
        raise Failed(
            f"Could not run '{argv[0]}'. exitstatus: {status}; Check error log '{log_path}' for details.",
            code=ErrorCode.INTERNAL_ERROR,
        )


async def _run(*argv: str) -> tuple[int, bytes]:
    """To the end. A cancelled caller takes the program down with it, and the swtpm that it has started."""
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        said = (await child.communicate())[0]
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
        raise
    assert child.returncode is not None
    return child.returncode, said


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Failed(
            f"Unable to find '{name}' binary in $PATH: No such file or directory", code=ErrorCode.SYSTEM_ERROR
        )
    return path
