"""A supervisor in a process of its own, to be killed: supervise.py HOME NOTES NAME:PORT …"""

import os
import sys
from pathlib import Path

from penstock.main.instance import Addresses
from penstock.main.supervisor import Supervisor
from penstock.spec.home import Home
from tests.main.fleet import stand_in

home, notes, *children = sys.argv[1:]
Supervisor(
    home=Home(root=Path(home)),
    addresses=Addresses(),
    workers=1,
    version="test",
    children=[
        stand_in(each.partition(":")[0], int(each.partition(":")[2]), Path(notes)) for each in children
    ],
    say=lambda _: None,
).run(lambda: os.write(1, b"ready\n"))
