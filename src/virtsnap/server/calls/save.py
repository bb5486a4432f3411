"""The calls that save a domain's state and bring it back."""

from __future__ import annotations

from virtsnap.api.params import SaveParams
from virtsnap.model.errors import InvalidArg
from virtsnap.server.session import Session
from virtsnap.wire.values import Param, WireDomain, values_of


def _given(params: list[Param]) -> SaveParams:
    return SaveParams.of(values_of(params))  # type: ignore[arg-type]


async def domain_save(session: Session, dom: WireDomain, to: str) -> None:
    await session.service.save(dom.uuid_text, to)


async def domain_save_flags(session: Session, dom: WireDomain, to: str, dxml: str | None, flags: int) -> None:
    await session.service.save(dom.uuid_text, to, dxml, flags)


async def domain_save_params(session: Session, dom: WireDomain, params: list[Param], flags: int) -> None:
    given = _given(params)
    if given.file is None:
        given.refuse_all_but_file()
        await session.service.managed_save(dom.uuid_text, flags)
        return
    await session.service.save(
        dom.uuid_text,
        given.file,
        given.dxml,
        flags,
        image_format=given.image_format,
        channels=given.channels,
    )


async def domain_restore(session: Session, file: str) -> None:
    await session.service.restore(file)


async def domain_restore_flags(session: Session, file: str, dxml: str | None, flags: int) -> None:
    await session.service.restore(file, dxml, flags)


async def domain_restore_params(session: Session, params: list[Param], flags: int) -> None:
    given = _given(params)
    if given.file is None:
        raise InvalidArg("missing parameter 'file'")
    given.refuse_image_format()
    await session.service.restore(given.file, given.dxml, flags, channels=given.channels)


async def domain_save_image_get_xml_desc(session: Session, file: str, flags: int) -> str:
    return await session.service.save_image_xml(file, flags)


async def domain_save_image_define_xml(session: Session, file: str, dxml: str, flags: int) -> None:
    await session.service.save_image_define_xml(file, dxml, flags)


async def domain_managed_save(session: Session, dom: WireDomain, flags: int) -> None:
    await session.service.managed_save(dom.uuid_text, flags)


async def domain_has_managed_save_image(session: Session, dom: WireDomain, flags: int) -> bool:
    return (await session.service.domain_info(dom.uuid_text)).managed_save


async def domain_managed_save_remove(session: Session, dom: WireDomain, flags: int) -> None:
    await session.service.managed_save_remove(dom.uuid_text, flags)


async def domain_managed_save_get_xml_desc(session: Session, dom: WireDomain, flags: int) -> str:
    return await session.service.managed_save_xml(dom.uuid_text, flags)


async def domain_managed_save_define_xml(
    session: Session, dom: WireDomain, dxml: str | None, flags: int
) -> None:
    if dxml is None:
        raise InvalidArg("a managed save is changed by an XML document")
    await session.service.managed_save_define_xml(dom.uuid_text, dxml, flags)
