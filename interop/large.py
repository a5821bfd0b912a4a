"""Measures a built exops end to end on this machine: large.py <binary> [mailboxes that pypsrp reads].

A lab with 100,000 mailboxes, HTTPS on loopback, and `exops run Get-Mailbox -o jsonl > /dev/null` over both transports, beside pypsrp
that reads 10,000 of them (minutes); then idle sessions.

Every row is one fresh client; the first of each transport has read the same before, uncounted. A peak is that of the resident set
during the row, of the client and of the lab (aim P4: as flat as for a tenth of the objects). Megabytes are of the objects' CLIXML as
remote PowerShell carries it, also where REST carries JSON in its place, so that rows can be compared.
"""

import json
import os
import subprocess
import sys

import measure

binary = sys.argv[1] = os.path.abspath(sys.argv[1])
SMALL, LARGE, ACCOUNTS = 10_000, 100_000, 50
read = int(sys.argv[2]) if len(sys.argv) > 2 else SMALL

lab = measure.Lab("--seed", "large", minutes=10)
server = lab.process.pid
measure.once(lab.connect())


def cost(work):
    """What `work` gives, the lab's peak in MB during it, and the seconds of processor time that the lab took for it."""

    def used():
        with open(f"/proc/{server}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    measure.forget_peak(server)
    before = used()
    result = work()
    return result, measure.resident(server), used() - before


def row(name, objects, seconds, megabytes, client, processor, served, server_processor):
    print(f"| {name} | {objects:,} | {seconds:.2f} | {megabytes / seconds:.1f} | {objects / seconds:,.0f} | {client:.1f} | {served:.1f} |"
          f" {processor:.2f} | {server_processor:.2f} |", flush=True)


print(f"exops end to end on loopback, {os.cpu_count()} cores, client and lab on the same ones; processor seconds are of each end\n")
print("| what | objects | s | MB/s of CLIXML | objects/s | client peak MB | lab peak MB | client CPU s | lab CPU s |\n|---|---|---|---|---|---|---|---|---|")
((_, text), served, lab_processor) = cost(lambda: measure.once(lab.script("large_pypsrp.py", "--count", str(read), "--idle", "")))
theirs = json.loads(text.splitlines()[-1])
assert theirs["objects"] == read, theirs
size = theirs["bytes"] / read / 1e6
row("pypsrp, remote PowerShell", read, theirs["seconds"], size * read, theirs["peak"], theirs["processor"], served, lab_processor)
for transport, name in (("rps", "remote PowerShell"), ("rest", "REST")):
    peaks = []
    for objects in (SMALL, LARGE):
        command = [binary, "run", "Get-Mailbox", "-ResultSize", str(objects), "-o", "jsonl", "--transport", transport]
        if objects == SMALL:
            lines = measure.once(command)[1].count("\n{")
            assert lines in (SMALL - 1, SMALL), f"{lines} further lines for {SMALL} mailboxes"  # warnings may stand before the first
        ((seconds, processor, client), served, lab_processor) = cost(lambda: measure.watched(command))
        row(f"exops, {name}", objects, seconds, size * objects, client, processor, served, lab_processor)
        peaks.append((client, served))
    for end, (small, large) in zip(("client", "lab"), zip(*peaks)):
        print(f"{name}: peak of the {end} grows by {(large / small - 1) * 100:.0f} % (aim 20 %)", file=sys.stderr)
print(f"\none mailbox is {size * 1e3:.2f} kB of CLIXML")

# Another lab: this one's heap has room that was used once.
lab.end()
lab = measure.Lab(folder="idle")
server = lab.process.pid
applications = [lab.application(f"idle {number}") for number in range(ACCOUNTS)]
before = measure.resident(server, "VmRSS")
command = lab.script("large_pypsrp.py", "--count", "0", "--idle", ",".join(applications))
with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=measure.home, env=measure.environment, text=True) as holder:
    sessions = json.loads(holder.stdout.readline() or sys.exit("no sessions were opened"))["sessions"]
    each = (measure.resident(server, "VmRSS") - before) * 1024 / sessions
    holder.terminate()
print(f"{sessions:,} idle sessions with their connections: {each:.1f} KiB each (aim P7: 10,000 in 1 GiB, 105 KiB each)")
