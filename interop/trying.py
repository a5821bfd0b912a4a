"""What the scripts share that try one thing after the other and tell how each went."""

import os
import sys
import threading
import time
import traceback


def same(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def all_of(things):
    """Does each of (name, function) and prints `pass` or `fail`, the name, and why; ends the process, whatever still hangs in it."""
    failed = False
    for name, thing in things:
        outcome = []

        def tried():
            try:
                thing()
                outcome.append("")
            except BaseException as error:
                last = traceback.extract_tb(error.__traceback__)
                at = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(last) if "interop" in frame.filename)
                outcome.append(f"{type(error).__name__}: {error} at {at}")

        begun = time.monotonic()
        worker = threading.Thread(target=tried, daemon=True)
        worker.start()
        worker.join(45)
        why = outcome[0] if outcome else "no end within 45 seconds"
        print(f"{time.monotonic() - begun:5.1f} s {name}", file=sys.stderr)
        print("fail" if why else "pass", f"{name}: {why}" if why else name, flush=True)
        failed |= bool(why)
    os._exit(failed)
