"""A person with virt-manager: opens a guest, takes a snapshot of it, later goes back to it.

Run by the system's Python: takes the URI, the guest's name and a folder for pictures. Says a word on stdout
after each part and goes on when a line comes by stdin.
"""

import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from windows import Program, picture

uri, guest, pictures = sys.argv[1:]


def pause(word: str) -> None:
    print(word, flush=True)
    sys.stdin.readline()


manager = subprocess.Popen(
    ["virt-manager", "--no-fork", "--debug", "--connect", uri], stdin=subprocess.DEVNULL, stdout=sys.stderr
)
try:
    screen = Program("virt-manager")
    main = screen.window("Virtual Machine Manager")
    screen.select(main, guest)
    pause("listed")
    picture(main, f"{pictures}/virt-manager.png")
    screen.press(main, "Open", "push button")
    shown = screen.window(f"{guest} on")
    screen.press(shown, "Snapshots", "radio button")
    screen.press(shown, "snapshot-add")
    new = screen.window("Create snapshot")
    screen.write(new, "Name:", "before-update")
    screen.write(new, "Description:", "all is well")
    screen.press(new, "Finish")
    screen.named(shown, "before-update", "table cell")
    screen.closed("Create snapshot")
    pause("taken")
    screen.select(shown, "before-update")
    screen.named(shown, "Snapshot 'before-update':")
    picture(shown, f"{pictures}/virt-manager-snapshots.png")
    screen.click(shown, "snapshot-start")
    screen.press(screen.window("vmm dialog"), "Yes")
    screen.closed("vmm dialog")
    screen.press(shown, "Console", "radio button")
    pause("reverted")
finally:
    manager.send_signal(signal.SIGTERM)
    manager.wait()
