#!/usr/bin/python3 -I
"""runc that sets no limits: in a unified hierarchy on a machine with cgroups of version 1 there is no controller for them."""

import json
import os
import sys

if "--bundle" in sys.argv:
    file = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")  # noqa: PTH118
    with open(file) as text:
        spec = json.load(text)
    spec["linux"].pop("resources", None)
    with open(file, "w") as text:
        json.dump(spec, text)
os.execv("/usr/sbin/runc", ["runc", *sys.argv[1:]])
