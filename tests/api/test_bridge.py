from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from virtsnap.api import aio, bridge, constants, sync
from virtsnap.model import block_job, event, flags, job
from virtsnap.model.domain import DomainState


def test_the_generated_file_is_what_the_generator_makes() -> None:
    present = Path(bridge.__file__).with_name("sync.py").read_text()
    assert ast.dump(ast.parse(present)) == ast.dump(ast.parse(bridge.generate())), (
        "run: python -m virtsnap.api.bridge && ruff format src/virtsnap/api/sync.py"
    )


@pytest.mark.parametrize("name", ["Connection", "Domain", "DomainSnapshot"])
def test_both_faces_have_the_same_methods_and_arguments(name: str) -> None:
    asynchronous, synchronous = getattr(aio, name), getattr(sync, name)
    public = [one for one in vars(asynchronous) if not one.startswith("_")]
    assert public == [one for one in vars(synchronous) if not one.startswith("_")] or set(public) == {
        one for one in vars(synchronous) if not one.startswith("_")
    }
    for method in public:
        ours, theirs = (inspect.signature(getattr(one, method)) for one in (synchronous, asynchronous))
        assert ours.parameters == theirs.parameters, method
        assert not inspect.iscoroutinefunction(getattr(synchronous, method)), method


def test_constants_are_the_enums_numbers() -> None:
    prefixes = {
        "VIR_CONNECT_LIST_DOMAINS_": flags.DomainList,
        "VIR_DOMAIN_BLOCK_JOB_TYPE_": block_job.BlockJobType,
        "VIR_DOMAIN_BLOCK_JOB_ABORT_": flags.BlockJobAbort,
        "VIR_DOMAIN_BLOCK_JOB_INFO_": flags.BlockJobInfoFlags,
        "VIR_DOMAIN_BLOCK_JOB_SPEED_": flags.BlockJobSetSpeed,
        "VIR_DOMAIN_BLOCK_PULL_": flags.BlockPull,
        "VIR_DOMAIN_BLOCK_REBASE_": flags.BlockRebase,
        "VIR_DOMAIN_BLOCK_COPY_": flags.BlockCopy,
        "VIR_DOMAIN_BLOCK_COMMIT_": flags.BlockCommit,
        "VIR_DOMAIN_BLOCK_RESIZE_": flags.BlockResize,
        "VIR_DOMAIN_QEMU_MONITOR_COMMAND_": flags.QemuMonitorCommand,
        "VIR_DOMAIN_DEFINE_": flags.DomainDefine,
        "VIR_DOMAIN_DESTROY_": flags.DomainDestroy,
        "VIR_DOMAIN_ABORT_JOB_": job.AbortJob,
        "VIR_DOMAIN_JOB_": job.JobType,
        "VIR_DOMAIN_JOB_STATS_": job.JobStats,
        "VIR_DOMAIN_REBOOT_": flags.ShutdownMethod,
        "VIR_DOMAIN_SAVE_": flags.DomainSaveRestore,
        "VIR_DOMAIN_SHUTDOWN_": flags.ShutdownMethod,
        "VIR_DOMAIN_SNAPSHOT_CREATE_": flags.SnapshotCreate,
        "VIR_DOMAIN_SNAPSHOT_DELETE_": flags.SnapshotDelete,
        "VIR_DOMAIN_SNAPSHOT_LIST_": flags.SnapshotList,
        "VIR_DOMAIN_SNAPSHOT_REVERT_": flags.SnapshotRevert,
        "VIR_DOMAIN_START_": flags.DomainStart,
        "VIR_DOMAIN_UNDEFINE_": flags.DomainUndefine,
        "VIR_DOMAIN_XML_": flags.DomainXml,
        "VIR_DOMAIN_": DomainState,
        "VIR_DOMAIN_EVENT_ID_": event.EventKind,
        "VIR_DOMAIN_EVENT_": event.Life,
        "VIR_DOMAIN_EVENT_WATCHDOG_": event.WatchdogAction,
        "VIR_DOMAIN_EVENT_IO_ERROR_": event.IoErrorAction,
        "VIR_DOMAIN_EVENT_GRAPHICS_": event.GraphicsPhase,
        "VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_": event.GraphicsFamily,
        "VIR_DOMAIN_EVENT_TRAY_CHANGE_": event.TrayChange,
        "VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_": event.AgentState,
        "VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_": event.AgentReason,
        "VIR_DOMAIN_BLOCK_JOB_": event.BlockJobStatus,
    }
    wanted: dict[str, int | str] = {
        prefix + member: int(value)
        for prefix, enum in prefixes.items()
        for member, value in enum.__members__.items()
    }
    wanted |= {f"VIR_DOMAIN_EVENT_{one.name}": one.number for one in event.Detail}
    theirs = set(job.JobOperation) - {job.JobOperation.FLATTEN}
    wanted |= {f"VIR_DOMAIN_JOB_OPERATION_{one.name}": one.number for one in theirs}
    names = {"FILE": "file", "DXML": "dxml", "IMAGE_FORMAT": "image_format"}
    names["PARALLEL_CHANNELS"] = "parallel.channels"
    wanted |= {f"VIR_DOMAIN_SAVE_PARAM_{key}": value for key, value in names.items()}
    wanted |= {
        "VIR_DOMAIN_BLOCK_COPY_BANDWIDTH": "bandwidth",
        "VIR_DOMAIN_BLOCK_COPY_GRANULARITY": "granularity",
        "VIR_DOMAIN_BLOCK_COPY_BUF_SIZE": "buf-size",
    }
    assert {key: value for key, value in vars(constants).items() if key.startswith("VIR_")} == wanted
