"""A PlanReport as text and as JSON: what --dry-run prints."""

from __future__ import annotations

from dataclasses import asdict

from virtsnap.cli.args import Args
from virtsnap.cli.session import Session
from virtsnap.service.interface import PlanReport


def show(session: Session, args: Args, report: PlanReport) -> None:
    """Print the report in the form asked for."""
    if session.wants_json(args):
        session.json(asdict(report))
    else:
        session.print(as_text(report))


def as_text(report: PlanReport) -> str:
    """One block a subject: files made, removed, merged; the pause; the steps, numbered."""
    kind = {"flatten": "disk", "clone": "domain"}.get(report.operation, "snapshot")
    text = f"Plan: {report.operation} {kind} '{report.subject}' (nothing has been done)\n"
    for label, lines in (("Makes", report.makes), ("Removes", report.removes), ("Merges", report.merges)):
        text += f"{label}:\n" + "".join(f"  {line}\n" for line in lines or ("-",))
    text += f"Guest pause: {report.pause}\nSteps:\n"
    digits = len(str(len(report.steps)))
    return text + "".join(f"  {n:>{digits}}. {step}\n" for n, step in enumerate(report.steps, 1))
