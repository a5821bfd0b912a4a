"""Measures a built exops on this machine, on loopback, beside msal and pypsrp: figures.py <binary> [runs].

Every row is a fresh process. Times are wall clock from start to end of the process. Memory is the peak resident set (VmHWM of
/proc), watched in runs of their own so that watching costs no time in the others. The kernel's ru_maxrss would not do: a child
inherits in it the size of the process that started it.
"""

import atexit
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

binary, runs = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
here = os.path.dirname(os.path.abspath(__file__))
home = tempfile.mkdtemp(prefix="exops-figures-")
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


def peak(pid):
    """Peak resident set of a running process in MB; 0 when it runs no more."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmHWM")), 0) / 1024
    except OSError:
        return 0


def watched(command, **more):
    """Peak resident set of one process in MB: the highest that was seen until it ended."""
    process, highest = start(command, subprocess.DEVNULL, **more), 0  # Popen returns when the program is loaded
    while process.poll() is None:
        highest = max(highest, peak(process.pid))
    return highest


def row(name, command, times=runs, aim="", **more):
    """Measures and prints one row; the median."""
    once(command, **more)  # files in the page cache
    spent = sorted(once(command, **more)[0] for _ in range(times))
    middle, memory = statistics.median(spent), max(watched(command, **more) for _ in range(5))
    print(f"| {name} | {middle:.1f} | {spent[0]:.1f} | {spent[-1]:.1f} | {memory:.1f} | {aim} |", flush=True)
    return middle


def exops(*words):
    return json.loads(once([binary, *words])[1])


print(f"exops on loopback, {os.cpu_count()} cores, {runs} cold processes a row (milliseconds; peak resident set in MB)\n")
print("| what | median | min | max | peak MB | aim |\n|---|---|---|---|---|---|")
row("`exops --version`", [binary, "--version"], aim="10 ms")
row("`exops quickstart`, whole", [binary, "quickstart"], times=max(3, runs // 4))

data = os.path.join(home, "lab")
log = open(os.path.join(home, "lab.log"), "wb")
lab = subprocess.Popen([binary, "lab", "up", "--data", data, "--listen", "127.0.0.1:0"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=home, env=environment)
try:
    ready_file = os.path.join(data, "ready.json")
    for _ in range(600):
        if os.path.exists(ready_file) or lab.poll() is not None:
            break
        time.sleep(0.05)
    with open(ready_file, encoding="utf-8") as file:
        ready = json.load(file)

    pem = os.path.join(home, "figures.pem")
    once(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=figures", "-days", "2", "-keyout", pem + ".key", "-out", pem + ".crt"])
    with open(pem, "w", encoding="ascii") as both:
        for part in (".crt", ".key"):
            with open(pem + part, encoding="ascii") as file:
                both.write(file.read())
    application = exops("lab", "app", "create", "--name", "figures", "--certificate", pem + ".crt", "--app-role", "Exchange.ManageAsApp",
                        "--directory-role", "Exchange Administrator", "--data", data, "--json")
    connect = [binary, "connect", "--lab", "--data", data, "--app-id", application["app_id"], "--certificate-file-path", pem]
    row("`exops connect`: sign-in and one call", connect)
    ours, theirs = {}, {}
    for transport, name in (("rest", "REST"), ("rps", "remote PowerShell")):
        first = [binary, "run", "Get-Mailbox", "-ResultSize", "1", "-o", "jsonl", "--transport", transport]
        ours[name] = row(f"exops: sign-in and first cmdlet, {name}", first, aim="60 ms")
        script = [sys.executable, os.path.join(here, "first_cmdlet.py"), "--ready", ready_file, "--app-id", application["app_id"], "--certificate", pem]
        theirs[name] = row(f"Python: msal and {'requests' if transport == 'rest' else 'pypsrp'}, the same, {name}", [*script, "--transport", transport])
    row("exops: all recipients, remote PowerShell", [binary, "run", "Get-Recipient", "-ResultSize", "Unlimited", "-o", "jsonl", "--transport", "rps"], aim="30 MB")
    print(f"| the lab that served all this | | | | {peak(lab.pid):.1f} | 60 MB |\n")
    for name, spent in ours.items():
        print(f"{name}: exops is {theirs[name] / spent:.0f} times as fast as Python")
finally:
    lab.terminate()
    lab.wait(30)

print("\n| step of quickstart | ms |\n|---|---|")
document = exops("quickstart", "--json")
for step in document["steps"]:
    print(f"| {step['name']} | {step['ms']} |")
