"""Reads mailboxes over remote PowerShell with pypsrp and prints how many there were, the seconds, the memory and the bytes of their CLIXML: what
large.py measures exops beside. With --idle it opens sessions in the name of several applications and holds them."""

import time

import lab

given = lab.arguments(count="mailboxes to read", idle="applications, joined by commas, that 20 idle sessions are opened for each; may be empty")
if given.idle:
    sessions = []
    for given.app_id in given.idle.split(","):
        bearer = lab.token(given)
        for _ in range(20):
            session = lab.pool(given, bearer)
            session.open()
            sessions.append(session)
    lab.emit("idle", sessions=len(sessions))
    time.sleep(600)
else:
    with lab.pool(given, lab.token(given)) as session:
        begun = time.perf_counter()
        output = lab.run(session, "Get-Mailbox", ResultSize=int(given.count)).output
        seconds = time.perf_counter() - begun
        with open("/proc/self/status", encoding="ascii") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
        lab.emit("read", objects=len(output), seconds=seconds, processor=time.process_time(), peak=peak,
                 bytes=sum(len(item._xml.encode()) for item in output))
