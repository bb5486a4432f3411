"""Where virtsnapd's answers have another shape than a libvirtd's, and why: all that a replay may find.

A pattern is looked for in `CONNECTION PROCEDURE THEIRS OURS` (shapes as in `recorded.txt`); the first one
that is found counts.
"""

from __future__ import annotations

import json
import re

from tests.server.replay.player import LEFT_OUT, NOT_PLAYED, Difference

KNOWN = (
    (r" (checkpoint\w+|\w+_(backup|checkpoint)\w*) ", "no backups and checkpoints"),
    (
        r"^(g\d+|d10[45]|n070) domain_(get_job_stats|abort_job) ",
        "the job is a backup, which there is none of",
    ),
    (r" (\w*node_device\w*|node_list_devices|node_num_of_devices) ", "no host devices"),
    (r" connect_list_all_nwfilters ", "no network filters"),
    (r" connect_get_cpu_model_names ", "the table of CPU models is libvirt's own; here a model is QEMU's"),
    (
        r" connect_(list_all|num_of)_interfaces ",
        "no host interfaces: an empty list, where libvirt has no driver",
    ),
    (
        r" domain_attach_device_flags ",
        "devices are attached to definitions, and media to drives, not to a guest",
    ),
    (r" qemu:connect_domain_monitor_event\w+ ", "no events of monitors"),
    (
        r" (connect_get_all_domain_stats|domain_get_cpu_stats) ",
        "fewer figures: none of cgroups and KVM",
    ),
    (r" domain_get_scheduler_type .*\[55, ", "there was no cgroup controller where this was recorded"),
    (r" domain_get_messages ", "libvirt calls a guest tainted that runs as root"),
    (r"^f006 storage_vol_download ", "streams with holes are not sent"),
    (
        r"^f010 domain_create_xml ",
        "no networks: an interface of type network is refused before one is looked for",
    ),
    (
        r"^d01[123] domain_(save_flags|restore_flags|resume) ",
        "--bypass-cache needs an image of format sparse (see docs/differences.md); no file, no restore",
    ),
    (r" storage_pool_list_all_volumes ", "counts what lies in the folder"),
    (r"^n059 domain_block_job_abort ", "asked before the job was ready; the player waits until it is"),
    (r" unknown$", "a call of libvirt that is not known here at all ('unknown procedure')"),
    (r'\{"error": \[3, \d+\]\}$', "a call that is known and not carried out ('not supported')"),
)


def reason(difference: Difference) -> str | None:
    """Why it is so; None: nobody has said."""
    where = difference.connection.split()[0]
    call, ours = difference.call, difference.ours
    if ours == LEFT_OUT:
        return "not played: " + NOT_PLAYED[where, call.name]
    text = (
        f"{where} {call.name} {json.dumps(call.shape)} {ours if isinstance(ours, str) else json.dumps(ours)}"
    )
    return next((why for pattern, why in KNOWN if re.search(pattern, text)), None)
