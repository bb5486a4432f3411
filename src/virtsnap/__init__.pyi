from virtsnap.api import aio as aio
from virtsnap.api.constants import *  # noqa: F403
from virtsnap.api.sync import Connection as Connection
from virtsnap.api.sync import Domain as Domain
from virtsnap.api.sync import DomainSnapshot as DomainSnapshot
from virtsnap.api.sync import open as open
from virtsnap.model.errors import VirtsnapError as VirtsnapError
from virtsnap.model.flags import DomainDefine as DomainDefine
from virtsnap.model.flags import DomainDestroy as DomainDestroy
from virtsnap.model.flags import DomainList as DomainList
from virtsnap.model.flags import DomainSaveRestore as DomainSaveRestore
from virtsnap.model.flags import DomainStart as DomainStart
from virtsnap.model.flags import DomainUndefine as DomainUndefine
from virtsnap.model.flags import DomainXml as DomainXml
from virtsnap.model.flags import ShutdownMethod as ShutdownMethod
from virtsnap.model.flags import SnapshotCreate as SnapshotCreate
from virtsnap.model.flags import SnapshotDelete as SnapshotDelete
from virtsnap.model.flags import SnapshotList as SnapshotList
from virtsnap.model.flags import SnapshotRevert as SnapshotRevert
from virtsnap.model.libvirt import LibvirtReport as LibvirtReport
from virtsnap.service.interface import PlanReport as PlanReport
from virtsnap.service.interface import Progress as Progress

__version__: str
