"""The calls between a real libvirt and us: a domain taken over with its whole tree, and given back.

Nobody needs to run libvirtd for it: its files are read and written. Taking over leaves libvirt's own files as
they are, so afterwards two programs know the domain and only one may run it; the reports say so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from virtsnap.model.errors import InvalidArg, OperationInvalid, VirtsnapError
from virtsnap.model.frozen import dataclass
from virtsnap.model.libvirt import FoundFile
from virtsnap.service.interface import Progress, ProgressCallback
from virtsnap.service.managed import ManagedSave, on_present_disks
from virtsnap.service.snapshots import SnapshotCalls

if TYPE_CHECKING:
    from virtsnap.engine.world import World
    from virtsnap.formats.save_image import SaveImageHeader
    from virtsnap.model.libvirt import LibvirtReport, Places
    from virtsnap.plan.libvirt_tree import Takeover


class LibvirtCalls(SnapshotCalls):
    """See `service.interface.Service`."""

    async def import_libvirt(
        self,
        name: str,
        *,
        dir: str | None = None,
        definitions: str | None = None,
        run_dir: str | None = None,
        leave_save: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> LibvirtReport:
        """Take over a domain of a real libvirt. Raises InvalidArg, and OperationInvalid with every reason."""
        from virtsnap.engine.locks import DomainLock
        from virtsnap.plan import libvirt_tree
        from virtsnap.qemu import libvirt_dir
        from virtsnap.qemu.facts import is_regular

        self.writable("import-libvirt")
        bad = libvirt_tree.check_domain_name(name)
        if bad is not None:
            raise InvalidArg(bad)
        places = libvirt_dir.places(dir, definitions, run_dir)
        # Whose lock it is; everything else is looked at under the lock.
        files = replace(libvirt_dir.read(places, name, others=False), snapshots=())
        found = libvirt_tree.read(files, is_regular)
        lock = DomainLock(self.root, found.uuid)
        async with lock.acquired() if found.uuid and not dry_run else contextlib.nullcontext():
            return await self._take_over(places, name, leave_save, dry_run, progress)

    async def _take_over(
        self, places: Places, name: str, leave_save: bool, dry_run: bool, progress: ProgressCallback | None
    ) -> LibvirtReport:
        from virtsnap.engine import swtpm
        from virtsnap.engine.steps.store_write import apply
        from virtsnap.engine.telling import tell
        from virtsnap.engine.world import World
        from virtsnap.model.event import Detail
        from virtsnap.plan import libvirt_tree, takeover
        from virtsnap.qemu import images, internal, libvirt_dir
        from virtsnap.qemu.facts import is_regular
        from virtsnap.qemu.paths import sync_folder_of

        files = libvirt_dir.read(places, name)
        found = await self._as_here(libvirt_tree.read(files, is_regular), _reporter("Reading", progress))
        others, unread = libvirt_dir.other_images(files.others)
        evidence = await libvirt_dir.examine(
            libvirt_tree.wanted(found), [*others, *self._own_images()], _reporter("Checking", progress)
        )
        evidence = replace(evidence, taken=self._taken(found))
        notes = [
            f"'{path}' cannot be read: whether its domain uses the same images is not known"
            for path in unread
        ]
        found = replace(found, notes=(*found.notes, *notes))
        found, tpm = self._tpm_to_take(places, found)
        report, admission = takeover.judge(found, evidence, leave_save=leave_save)
        if tpm is not None:
            report = replace(report, files=(*report.files, tpm.found))
        report = replace(report, definition=places.definition(name))
        if dry_run:
            return report
        if admission is None:
            raise OperationInvalid(f"cannot take over domain '{name}': " + "; ".join(report.problems))
        world = World(self.root, self.store, found.uuid)
        managed = ManagedSave.of(self.root, found.uuid)
        saved = found.save if not leave_save else None
        # Not yet under its name: a managed save without a domain would wait for one of the same uuid.
        copied = managed.path + ".import"
        made: list[str] = []
        try:
            if tpm is not None:
                swtpm.make_folder(os.path.dirname(tpm.path))
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(tpm.copied)
                await images.copy(tpm.found.path, tpm.copied)
                made += [tpm.copied, tpm.path]
            for kept in admission.variables:
                await images.copy(kept.path, kept.copy)
                made.append(kept.copy)
                await internal.apply(kept.copy, kept.tag)
            if saved is not None:
                await self._copy_save(world, managed, saved, copied, progress)
            with self.store.transaction() as tx:
                if (taken := self._taken(found)) is not None:
                    raise OperationInvalid(taken)
                apply(world, tx, admission.write)
                tell(tx, world.record(), Detail.DEFINED_ADDED)
                if saved is not None:
                    os.replace(copied, managed.path)
                    sync_folder_of(managed.path)
                if tpm is not None:
                    os.replace(tpm.copied, tpm.path)
                    sync_folder_of(tpm.path)
        except BaseException:
            if saved is not None:
                made.append(copied)
                managed.remove()
            for path in made:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            raise
        return report

    def _tpm_to_take(self, places: Places, found: Takeover) -> tuple[Takeover, _Tpm | None]:
        """The state of the domain's TPM, unless it never ran; what is in the way becomes a problem."""
        from virtsnap.machine.tpm import state_in, tpm_state

        if not found.config_xml:
            return found, None
        source = state_in(places.tpms, found.config_xml)
        path = tpm_state(str(self.root), found.config_xml)
        if source is None or path is None:
            return found, None
        if os.path.lexists(path):
            return replace(found, problems=(*found.problems, f"TPM state '{path}' is there already")), None
        try:
            with open(source, "rb") as file:
                size = os.fstat(file.fileno()).st_blocks * 512
        except FileNotFoundError:
            return found, None
        except OSError as error:
            problem = f"TPM state '{source}': {error.strerror}"
            return replace(found, problems=(*found.problems, problem)), None
        return found, _Tpm(FoundFile(source, "TPM state", "", "copied", size), path)

    async def _as_here(self, found: Takeover, report: Callable[[int, int], None]) -> Takeover:
        """With what is filled in when a domain is defined here."""
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.plan import libvirt_tree

        texts: dict[str, str] = {}
        refused: dict[str, str] = {}
        distinct = dict.fromkeys(found.texts)
        for number, text in enumerate(distinct, 1):
            report(number, len(distinct))
            try:
                definition = await self.completed(DomainDefinition.parse(text))
                libvirt_tree.check_runs(definition)
                texts[text] = definition.to_inactive_xml()
            except VirtsnapError as error:
                refused[text] = str(error)
        return libvirt_tree.completed(found, texts, refused)

    def _own_images(self) -> list[tuple[str, Mapping[str, str]]]:
        """What the domains of this root name."""
        from virtsnap.formats.libvirt_files import named_images

        found: list[tuple[str, Mapping[str, str]]] = []
        for record in self.store.domains():
            texts = [record.config_xml, record.live_xml]
            texts += [snapshot.domain_xml for snapshot in self.store.tree(record.uuid)]
            named: dict[str, str] = {}
            for text in texts:
                named |= named_images(text)[1] if text is not None else {}
            found.append((f"domain '{record.name}' here", named))
        return found

    def _taken(self, found: Takeover) -> str | None:
        same_uuid, same_name = self.store.domain(found.uuid), self.store.domain_by_name(found.name)
        if same_uuid is not None:
            return f"domain '{same_uuid.name}' is already defined here with uuid {found.uuid}"
        if same_name is not None:
            return f"domain '{found.name}' already exists here with uuid {same_name.uuid}"
        return None

    async def _copy_save(
        self, world: World, managed: ManagedSave, source: str, copy: str, progress: ProgressCallback | None
    ) -> None:
        """A copy, with a note of the disks as they are; libvirt's own stays."""
        from virtsnap.engine.steps import do_step
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.model.steps import NoteDisks
        from virtsnap.qemu import images, memory

        os.makedirs(os.path.dirname(managed.path), mode=0o700, exist_ok=True)
        managed.remove()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
        saved = DomainDefinition.parse(memory.read_header(source).xml)
        await images.copy(source, copy, _reporter("Copying", progress))
        disks = tuple(
            (disk.target, disk.source, disk.source, disk.format)
            for disk in saved.disks
            if disk.source is not None and not disk.readonly
        )
        await do_step(world, NoteDisks(managed.note, disks))

    async def export_libvirt(
        self,
        uuid: str,
        *,
        dir: str | None = None,
        definitions: str | None = None,
        run_dir: str | None = None,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
    ) -> LibvirtReport:
        """Give a domain back to libvirt. Raises InvalidArg, OperationInvalid with every reason, Failed."""
        from virtsnap.engine.libvirt_dir import LibvirtDir
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.plan.handback import plan_handback
        from virtsnap.plan.libvirt_tree import check_domain_name
        from virtsnap.qemu import libvirt_dir

        self.writable("export-libvirt")
        places = libvirt_dir.places(dir, definitions, run_dir, make=not dry_run)
        async with self.operation(uuid) as world:
            record = world.record()
            bad = check_domain_name(record.name)
            if bad is not None:
                raise InvalidArg(bad)
            target = LibvirtDir(places, record.name)
            if not dry_run:
                target.recover()
            there = libvirt_dir.read(places, record.name)
            facts = await self._facts(world)
            save, misfit = None, None
            if facts.managed_save:
                try:
                    save = await self._save_to_give(world)
                except VirtsnapError as error:
                    misfit = str(error)
            saved_there = libvirt_dir.memory_image(places.save(record.name)) if there.saved else None
            files = [snapshot.memory_file for snapshot in facts.tree]
            nvram = DomainDefinition.parse(record.config_xml).nvram_path
            tags = await libvirt_dir.nvram_tags([nvram] if nvram is not None else [])
            memory = {path: libvirt_dir.memory_image(path) for path in files if path is not None}
            report, wanted = plan_handback(
                facts, there, memory=memory, nvram_tags=tags, saved_there=saved_there, misfit=misfit
            )
            if dry_run:
                return report
            if wanted is None:
                raise OperationInvalid(
                    f"cannot give domain '{record.name}' back to libvirt: " + "; ".join(report.problems)
                )
            await target.write(wanted, save, _reporter("Copying", progress))
            return report

    async def _save_to_give(self, world: World) -> tuple[str, SaveImageHeader]:
        """The managed save, and its head with the disks that have the content now."""
        from virtsnap.formats.domain_xml import DomainDefinition
        from virtsnap.qemu import memory

        managed = ManagedSave.of(self.root, world.uuid)
        header = memory.read_header(managed.path)
        memory.check_whole(managed.path, header)
        saved = DomainDefinition.parse(header.xml)
        present = await on_present_disks(managed, world.record(), saved)
        if present.to_xml() != saved.to_xml():
            header = replace(header, xml=present.to_xml())
        return managed.path, header


@dataclass(frozen=True)
class _Tpm:
    """The state of a TPM that is taken over, and where to."""

    found: FoundFile
    path: str

    @property
    def copied(self) -> str:
        """Where it is until the domain is there, so that a crash leaves nothing in the way."""
        return f"{self.path}.import"


def _reporter(label: str, progress: ProgressCallback | None) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(Progress(label, done, total))

    return report
