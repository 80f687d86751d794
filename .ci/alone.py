"""``alone.py LOCK COMMAND...``: run a command while no other one runs under the same lock.

The lock goes when the last process ends that the command started, however it ends.
"""

import os
import sys

try:
    import fcntl
except ImportError:  # Windows has none: there, who installs twice at once is not held up
    fcntl = None

lock, *command = sys.argv[1:]
if fcntl is not None:
    os.makedirs(os.path.dirname(lock), exist_ok=True)
    held = os.open(lock, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write("Another make installs here; waiting for it\n")
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except KeyboardInterrupt:
            sys.exit(130)
    os.set_inheritable(held, True)
os.execvp(command[0], command)
