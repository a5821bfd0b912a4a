"""Measures a built exops on this machine, on loopback, beside msal and pypsrp: figures.py <binary> [runs].

Every row is a fresh process. Times are wall clock from start to end of the process. Memory is watched in runs of their own so that
watching costs no time in the others.
"""

import os
import statistics
import sys

import measure

binary, runs = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
sys.argv[1] = binary


def row(name, command, times=runs, aim="", **more):
    """Measures and prints one row; the median."""
    measure.once(command, **more)  # files in the page cache
    spent = sorted(measure.once(command, **more)[0] for _ in range(times))
    middle, memory = statistics.median(spent), max(measure.watched(command, **more)[2] for _ in range(5))
    print(f"| {name} | {middle:.1f} | {spent[0]:.1f} | {spent[-1]:.1f} | {memory:.1f} | {aim} |", flush=True)
    return middle


print(f"exops on loopback, {os.cpu_count()} cores, {runs} cold processes a row (milliseconds; peak resident set in MB)\n")
print("| what | median | min | max | peak MB | aim |\n|---|---|---|---|---|---|")
row("`exops --version`", [binary, "--version"], aim="10 ms")
row("`exops quickstart`, whole", [binary, "quickstart"], times=max(3, runs // 4))

lab = measure.Lab()
row("`exops connect`: sign-in and one call", lab.connect())
ours, theirs = {}, {}
for transport, name in (("rest", "REST"), ("rps", "remote PowerShell")):
    first = [binary, "run", "Get-Mailbox", "-ResultSize", "1", "-o", "jsonl", "--transport", transport]
    ours[name] = row(f"exops: sign-in and first cmdlet, {name}", first, aim="60 ms")
    script = lab.script("first_cmdlet.py", "--transport", transport)
    theirs[name] = row(f"Python: msal and {'requests' if transport == 'rest' else 'pypsrp'}, the same, {name}", script)
row("exops: all recipients, remote PowerShell", [binary, "run", "Get-Recipient", "-ResultSize", "Unlimited", "-o", "jsonl", "--transport", "rps"], aim="30 MB")
print(f"| the lab that served all this | | | | {measure.resident(lab.process.pid):.1f} | 60 MB |\n")
for name, spent in ours.items():
    print(f"{name}: exops is {theirs[name] / spent:.0f} times as fast as Python")
lab.end()

print("\n| step of quickstart | ms |\n|---|---|")
document = measure.exops("quickstart", "--json")
for step in document["steps"]:
    print(f"| {step['name']} | {step['ms']} |")
