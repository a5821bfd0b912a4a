"""What the measuring scripts share: processes with a home of their own, their time and memory, and a lab to measure against.

Memory is the peak resident set (VmHWM of /proc), watched. The kernel's ru_maxrss would not do: a child inherits in it the size of the
process that started it.
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
home = tempfile.mkdtemp(prefix="exops-measure-")
atexit.register(shutil.rmtree, home, ignore_errors=True)
environment = {name: value for name, value in os.environ.items() if not name.startswith(("EXOPS_", "AZURE_")) and not name.lower().endswith("_proxy")}
environment.update(HOME=home, EXOPS_HOME=home, NO_COLOR="1")


def start(command, out, **more):
    return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=home, env={**environment, **more})


def once(command, **more):
    """Milliseconds and output of one process; its failure ends everything."""
    with tempfile.TemporaryFile() as out:
        begun = time.perf_counter()
        code = start(command, out, **more).wait()
        elapsed = (time.perf_counter() - begun) * 1000
        out.seek(0)
        text = out.read().decode(errors="replace")
    if code != 0:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{text}")
    return elapsed, text


def resident(pid, field="VmHWM"):
    """Peak (or with VmRSS the present) resident set of a running process in MB; 0 when it runs no more."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(field)), 0) / 1024
    except OSError:
        return 0


def forget_peak(pid):
    """Lets the peak of a running process begin again at what it holds now."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def watched(command, **more):
    """Seconds, processor seconds and peak resident set in MB of one process: the highest that was seen until it ended."""
    begun, before, highest = time.perf_counter(), os.times(), 0
    process = start(command, subprocess.DEVNULL, **more)  # Popen returns when the program is loaded
    while process.poll() is None:
        highest = max(highest, resident(process.pid))
        time.sleep(0.002)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, processor, highest


def exops(*words):
    """The document that a command prints."""
    return json.loads(once([sys.argv[1], *words])[1])


class Lab:
    """A running lab, and an application in it whose certificate may do everything."""

    def __init__(self, *options, folder="lab", minutes=1):
        self.data, self.pem = os.path.join(home, folder), os.path.join(home, "measure.pem")
        log_path = os.path.join(home, "lab.log")
        with open(log_path, "wb") as log:
            self.process = start([sys.argv[1], "lab", "up", "--data", self.data, "--listen", "127.0.0.1:0", *options], log)
        atexit.register(self.end)
        self.ready_file = os.path.join(self.data, "ready.json")
        for _ in range(1200 * minutes):
            if os.path.exists(self.ready_file) or self.process.poll() is not None:
                break
            time.sleep(0.05)
        if not os.path.exists(self.ready_file):
            with open(log_path, encoding="utf-8") as log:
                sys.exit(f"the lab did not get ready:\n{log.read()}")
        once(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=measure", "-days", "2", "-keyout", self.pem + ".key", "-out", self.pem + ".crt"])
        with open(self.pem, "w", encoding="ascii") as both:
            for part in (".crt", ".key"):
                with open(self.pem + part, encoding="ascii") as file:
                    both.write(file.read())
        self.app_id = self.application("measure")

    def application(self, name):
        """The id of a new application with that certificate."""
        return exops("lab", "app", "create", "--name", name, "--certificate", self.pem + ".crt", "--app-role", "Exchange.ManageAsApp",
                     "--directory-role", "Exchange Administrator", "--data", self.data, "--json")["app_id"]

    def connect(self):
        """The command that connects to it."""
        return [sys.argv[1], "connect", "--lab", "--data", self.data, "--app-id", self.app_id, "--certificate-file-path", self.pem]

    def script(self, name, *words):
        """The command of a Python counterpart that signs in to it."""
        return [sys.executable, os.path.join(here, name), "--ready", self.ready_file, "--app-id", self.app_id, "--certificate", self.pem, *words]

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
