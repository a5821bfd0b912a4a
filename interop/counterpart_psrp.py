"""psrp, blocking and asynchronous, over HTTPS against the scripted endpoint: a client with other habits than pypsrp's.

It listens to each pipeline on a thread of its own, and asks for its next output and for its end at once.

counterpart_psrp.py READY-FILE prints a line for each thing tried: `pass` or `fail`, its name, and why.
"""

import asyncio
import json
import pathlib
import sys
import time

# The folder beside the environment, in front of the pypsrp in it.
sys.path.insert(0, str(pathlib.Path(sys.prefix).parent / "psrp"))

import psrp
from psrpcore.types import PSInvocationState, PSSecureString

import trying
from trying import same

ready = json.loads(pathlib.Path(sys.argv[1]).read_text())


def pool(kind=psrp.SyncRunspacePool, **more):
    of_the_connection = {name: more.pop(name) for name in ("max_envelope_size", "buffer_mode", "idle_timeout") if name in more}
    return kind(where(**of_the_connection), **more)


def where(**more):
    return psrp.WSManInfo(ready["powershell"], verify=ready["ca_file"], auth="basic", username=ready["user"], password=ready["password"],
                          encryption="never", configuration_name="Microsoft.Exchange", **more)


def begun(session, cmdlet, kind=psrp.SyncPowerShell, **parameters):
    shell = kind(session)
    shell.add_command(cmdlet).add_parameters(**parameters)
    return shell


def run(session, cmdlet, given=None, **parameters):
    return list(begun(session, cmdlet, **parameters).invoke(input_data=given))


def refusal(session, cmdlet, **parameters):
    try:
        run(session, cmdlet, **parameters)
    except psrp.PipelineFailed as error:
        return str(error)
    raise AssertionError(f"{cmdlet} was not refused")


class User(psrp.PSHostUI):
    def __init__(self):
        super().__init__()
        self.lines = []

    def read_line(self):
        return "typed here"

    def write_line(self, line="", *colours):
        self.lines.append(line)

    def write_debug_line(self, line):
        self.lines.append(f"DEBUG: {line}")

    def write_verbose_line(self, line):
        self.lines.append(f"VERBOSE: {line}")

    def write_warning_line(self, line):
        self.lines.append(f"WARNING: {line}")

    def write_progress(self, source, identity, activity, status, **more):
        self.lines.append(f"PROGRESS: {activity}")


def runs():
    with pool() as session:
        same([item.Alias for item in run(session, "Get-Mailbox", ResultSize=3)], ["user000001", "user000002", "user000003"])
        missing = begun(session, "Get-Mailbox", Identity="missing.one")
        same((list(missing.invoke()), missing.had_errors, len(missing.streams.error)), ([], True, 1))
        two = psrp.SyncPowerShell(session)
        two.add_command("Echo-Value").add_parameter("Value", 1).add_statement().add_command("Echo-Value").add_parameter("Value", 2)
        same(list(two.invoke()), [1, 2])
        same("Get-Nothing" in refusal(session, "Get-Nothing"), True)
        same("'Nope'" in refusal(session, "Get-Mailbox", Nope=1), True)
        script = psrp.SyncPowerShell(session)
        script.add_script("1 + 1")
        try:
            script.invoke()
            raise AssertionError("a script ran")
        except psrp.PipelineFailed as error:
            same("no-language mode" in str(error), True)


def takes_input():
    given = ["a", 1, None, True, 2.5, b"bytes", "\u00e9 \U0001F600"]
    with pool() as session:
        same(run(session, "Echo-Input", given), given)


def streams_and_host():
    user = User()
    with pool(host=psrp.PSHost(ui=user)) as session:
        shell = begun(session, "Write-Streams")
        same(list(shell.invoke()), ["one output record"])
        counts = {name: len(getattr(shell.streams, name)) for name in ("debug", "verbose", "warning", "error", "information", "progress")}
        same(counts, dict.fromkeys(counts, 1))
        same(sorted(user.lines),
             ["DEBUG: one debug record", "PROGRESS: Working", "VERBOSE: one verbose record", "WARNING: one warning record"])
        user.lines.clear()
        same((run(session, "Invoke-HostCall"), user.lines), (["typed here"], ["got it"]))


def secrets():
    with pool() as session:
        same(run(session, "Measure-Secret", Secret=PSSecureString("p@ss w\u00f6rd")), [9])
        [secret] = run(session, "Get-Secret")
        same(secret.decrypt(), "p@ss w\u00f6rd")


def stops():
    with pool() as session:
        shell = begun(session, "Start-Sleep", Seconds=60)
        task = shell.invoke_async()
        time.sleep(0.3)
        shell.stop()
        try:
            task.wait()
            raise AssertionError("it went on")
        except psrp.PipelineStopped:
            same(shell.state, PSInvocationState.Stopped)
        same(run(session, "Echo-Value", Value="after"), ["after"])


def runspaces():
    with pool(min_runspaces=1, max_runspaces=3) as session:
        same(session.get_available_runspaces(), 3)
        same((session.set_max_runspaces(5), session.set_min_runspaces(2)), (True, True))
        same((session.get_available_runspaces(), session.reset_runspace_state()), (5, True))


def metadata():
    with pool() as session:
        count, *commands = psrp.SyncCommandMetaPipeline(session, name=["Get-*"]).invoke()
        same((count.Count, [command.Name for command in commands]), (2, ["Get-Mailbox", "Get-Secret"]))


def comes_back():
    session = pool()
    session.open()
    session.disconnect()
    session.connect()
    same(run(session, "Echo-Value", Value=5), [5])
    begun(session, "Start-Sleep", Seconds=2).invoke_async()
    time.sleep(0.2)
    session.disconnect()
    [mine] = psrp.SyncRunspacePool.get_runspace_pools(where())
    mine.connect()
    [running] = mine.create_disconnected_power_shells()
    same(list(running.connect()), ["slept 2 seconds"])
    mine.close()


def small_envelopes():
    with pool(max_envelope_size=20_000, buffer_mode=psrp.OutputBufferingMode.DROP, idle_timeout=120) as session:
        same(len(run(session, "Get-Mailbox", ResultSize=300)), 300)


def many_at_once():
    async def echo(session, number):
        return list(await begun(session, "Echo-Value", psrp.AsyncPowerShell, Value=number).invoke())

    async def everything():
        async with pool(psrp.AsyncRunspacePool, max_runspaces=4) as session:
            return await asyncio.gather(*(echo(session, number) for number in range(24)))

    for _ in range(3):
        same(asyncio.run(everything()), [[number] for number in range(24)])


trying.all_of(
    [
        ("run", runs),
        ("input", takes_input),
        ("streams and host", streams_and_host),
        ("SecureString", secrets),
        ("stop", stops),
        ("runspaces", runspaces),
        ("command metadata", metadata),
        ("disconnect, reconnect, connect", comes_back),
        ("small envelopes", small_envelopes),
        ("many at once", many_at_once),
    ]
)
