"""Short questions to a running QEMU by its second monitor, which no operation holds."""

from __future__ import annotations

from typing import Any

from virtsnap.engine.world import query_path
from virtsnap.model.domain import DomainRecord
from virtsnap.model.errors import OperationInvalid
from virtsnap.qemu.monitor import Monitor, MonitorLost


async def ask(record: DomainRecord, command: str, **arguments: Any) -> Any:
    """What QEMU answers. Raises OperationInvalid when it does not run, Failed when it refuses."""
    if record.instance is None:
        raise OperationInvalid("domain is not running")
    try:
        async with await Monitor.connect(query_path(record.instance.run_dir)) as monitor:
            return await monitor.execute_raw(command, arguments)
    except MonitorLost as error:
        raise OperationInvalid("domain is not running") from error
