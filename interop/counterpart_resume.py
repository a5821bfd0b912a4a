"""pypsrp leaves a session and comes back: as the same client, and as another one that finds it by asking. And SecureStrings.

Prints one line of JSON a step.
"""

import os
import signal
import time

from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool

import lab

given = lab.arguments()
bearer = lab.token(given)


def names(shell):
    return [item.adapted_properties["Alias"] for item in shell.output]


session = lab.pool(given, bearer)
session.open()
first = lab.run(session, "Get-Mailbox", ResultSize=3)
session.disconnect()
try:
    session.shell.receive("stdout")
    lab.emit("receive while away", code=0)
except WSManFaultError as error:
    lab.emit("receive while away", code=error.code)
session.connect()
lab.emit("reconnected", before=names(first), after=names(lab.run(session, "Get-Mailbox", ResultSize=3)))

# A command that runs while its client goes away: its output waits for whoever comes.
away = PowerShell(session)
away.add_cmdlet("Get-Mailbox").add_parameter("ResultSize", 40)
away.begin_invoke()
session.disconnect()
found = [pool for pool in RunspacePool.get_runspace_pools(lab.connection(given, bearer)) if pool.id.upper() == session.id.upper()]
[other] = found
# pypsrp assumes a configuration of its own for shells that it finds.
other.shell.resource_uri = session.shell.resource_uri
other.connect()
pipelines = {name.upper(): shell for name, shell in other.pipelines.items()}
output = pipelines[away.id.upper()].connect()
lab.emit("taken over", count=len(output), state=str(other.state), more=len(names(lab.run(other, "Get-Mailbox", ResultSize=2))))

other.exchange_keys()
lab.emit("key", exchanged=other._key_exchanged)
other.close()
left = [pool.id for pool in RunspacePool.get_runspace_pools(lab.connection(given, bearer))]
lab.emit("closed", left=left)

# A process that is killed while it waits for its session: another one finds the shell disconnected, and the output that nobody fetched.
reading, writing = os.pipe()
process = os.fork()
if not process:
    session = lab.pool(given, bearer)
    session.open()
    left = PowerShell(session)
    left.add_cmdlet("Get-Mailbox").add_parameter("ResultSize", 30)
    left.begin_invoke()
    os.write(writing, f"{session.id} {left.id}".upper().encode())
    session.shell.receive("stdout")
    os._exit(0)
pool_id, command_id = os.read(reading, 200).decode().split()
own = lambda: next(pool for pool in RunspacePool.get_runspace_pools(lab.connection(given, bearer)) if pool.id.upper() == pool_id)


def connected():
    """The session taken over, or the number of the fault."""
    found = own()
    found.shell.resource_uri = "http://schemas.microsoft.com/powershell/Microsoft.Exchange"
    try:
        found.connect()
    except WSManFaultError as error:
        return error.code
    return found


time.sleep(1)
alive = connected()
os.kill(process, signal.SIGKILL)
os.waitpid(process, 0)
limit = time.monotonic() + 60
while isinstance(found := connected(), int):
    if time.monotonic() > limit:
        raise SystemExit(f"the shell of a killed client counts as connected: {found}")
    time.sleep(1)
pipelines = {name.upper(): shell for name, shell in found.pipelines.items()}
output = pipelines[command_id].connect()
lab.emit("killed", alive=alive, count=len(output), more=len(names(lab.run(found, "Get-Mailbox", ResultSize=2))))
found.close()
