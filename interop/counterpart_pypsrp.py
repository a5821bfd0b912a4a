"""pypsrp over HTTPS: all that it can do, against the lab and against the scripted endpoint.

counterpart_pypsrp.py READY-FILE for the endpoint; for the lab with `--ready READY-FILE --app-id … --certificate …`. Prints a line for each
thing tried: `pass` or `fail`, its name, and why.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.parse
import xml.etree.ElementTree as ET

from pypsrp.complex_objects import CommandType, ObjectMeta, PSCredential, PSInvocationState, RunspacePoolState
from pypsrp.exceptions import InvalidPSRPOperation, WSManFaultError
from pypsrp.host import PSHost, PSHostUserInterface
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

import lab
import trying
from trying import same

if sys.argv[1] == "--ready":
    given = lab.arguments()
    ready_file, token = given.ready, lab.token(given)
else:
    ready_file, token = sys.argv[1], sys.argv[2] if "--take-over" in sys.argv else ""
ready = json.loads(pathlib.Path(ready_file).read_text())
scripted = "user" in ready
user, password = (ready["user"], ready["password"]) if scripted else (f"OAuthUser@{ready['tenant_id']}", f"Bearer {token}")
UNKNOWN_SHELL, SHELLS_OF_A_USER, NOT_CONNECTED = 2150858843, 2150859173, 2150859204
SECRET = "p@ss w\u00f6rd"


def connection(**more):
    url = urllib.parse.urlsplit(ready["powershell"])
    return WSMan(url.hostname, port=url.port, path=url.path.strip("/"), ssl=True, auth="basic", username=user, password=password,
                 cert_validation=ready["ca_file"], no_proxy=True, **more)


def pool(wsman=None, **more):
    return RunspacePool(wsman or connection(), configuration_name="Microsoft.Exchange", **more)


def begun(session, cmdlet, **parameters):
    shell = PowerShell(session)
    shell.add_cmdlet(cmdlet).add_parameters(parameters)
    return shell


def run(session, cmdlet, given=None, **parameters):
    shell = begun(session, cmdlet, **parameters)
    shell.invoke(given)
    same((shell.state, [str(record) for record in shell.streams.error]), (PSInvocationState.COMPLETED, []))
    return shell


def aliases(shell):
    return [item.adapted_properties["Alias"] for item in shell.output]


def fault(code, action, *arguments, **named):
    try:
        action(*arguments, **named)
    except WSManFaultError as error:
        same(error.code, code)
        return error
    raise AssertionError(f"no fault {code}")


class User(PSHostUserInterface):
    """Somebody who answers, and who runs another command while a question waits."""

    def __init__(self):
        super().__init__()
        self.asked, self.lines, self.nested = [], [], None

    def beside(self, pipeline):
        if self.nested:
            inner = pipeline.create_nested_power_shell()
            inner.add_cmdlet("Get-Mailbox").add_parameter("ResultSize", 2).invoke()
            self.nested = aliases(inner)

    def ReadLine(self, runspace, pipeline):
        self.asked.append("ReadLine")
        self.beside(pipeline)
        return "typed here"

    def ReadLineAsSecureString(self, runspace, pipeline):
        # Does nothing where that is done.
        runspace.exchange_keys()
        self.asked.append("ReadLineAsSecureString")
        return runspace.serialize(SECRET, ObjectMeta("SS"))

    def PromptForCredential1(self, runspace, pipeline, caption, message, user_name, target_name):
        self.asked.append([caption, message, user_name, target_name])
        return PSCredential(username=user_name, password=SECRET)

    def Prompt(self, runspace, pipeline, caption, message, description):
        fields = [field.extended_properties for field in description]
        self.asked.append([[field["name"], field["parameterTypeFullName"]] for field in fields])
        secret = lambda field: field["parameterTypeName"] == "SecureString"
        return {field["name"]: runspace.serialize(SECRET, ObjectMeta("SS")) if secret(field) else "typed" for field in fields}

    def PromptForChoice(self, runspace, pipeline, caption, message, choices, default_choice):
        self.asked.append([choice.extended_properties["label"] for choice in choices])
        self.beside(pipeline)
        return 0

    def WriteLine2(self, runspace, pipeline, value):
        self.lines.append(value)

    def WriteLine3(self, runspace, pipeline, foreground, background, value):
        self.lines.append(value)

    def WriteWarningLine(self, runspace, pipeline, message):
        self.lines.append(f"WARNING: {message}")

    def WriteVerboseLine(self, runspace, pipeline, message):
        self.lines.append(f"VERBOSE: {message}")

    def WriteDebugLine(self, runspace, pipeline, message):
        self.lines.append(f"DEBUG: {message}")

    def WriteProgress(self, runspace, pipeline, source_id, record):
        self.lines.append("PROGRESS")


def with_user():
    ui = User()
    return pool(host=PSHost(None, None, False, "counterpart", None, ui, "1.0")), ui


def open_with_numbers():
    with pool(min_runspaces=1, max_runspaces=3) as session:
        same(session.state, RunspacePoolState.OPENED)
        available = session.get_available_runspaces()
        if not 1 <= available <= 3:
            raise AssertionError(f"{available} runspaces available")
        # Another number is taken or refused, never left without an answer.
        for name, number in (("max_runspaces", 5), ("min_runspaces", 2)):
            try:
                setattr(session, name, number)
            except InvalidPSRPOperation as error:
                same("Failed to set" in str(error), True)
        same(len(run(session, "Get-Mailbox", ResultSize=1).output), 1)
    same(session.state, RunspacePoolState.CLOSED)


def run_a_command():
    with pool() as session:
        shell = run(session, "Get-Mailbox", ResultSize=3)
        same((len(shell.output), len(shell.streams.warning)), (3, 1))
        missing = begun(session, "Get-Mailbox", Identity="missing.one")
        missing.invoke()
        same(len(missing.streams.error), 1)
        same("missing.one" in str(missing.streams.error[0]), True)
        unknown = begun(session, "Get-Nothing")
        try:
            unknown.invoke()
        except Exception:
            pass
        same(unknown.state, PSInvocationState.FAILED)


def input_of_a_pipeline():
    with pool() as session:
        names = aliases(run(session, "Get-Mailbox", ResultSize=3))
        same(aliases(run(session, "Get-Mailbox", list(names))), names)
        # Input that nobody takes ends in an error, not in a wait.
        refused = begun(session, "Get-Nothing")
        try:
            refused.invoke(["a", "b"])
        except Exception:
            pass
        same(refused.state, PSInvocationState.FAILED)
        if scripted:
            same(run(session, "Echo-Input", [1, "two", [3, 4], True]).output, [1, "two", [3, 4], True])


def input_as_it_comes():
    with pool() as session:
        shell, seen = begun(session, "Echo-Input"), []

        def objects():
            yield "first"
            yield "second"
            while not shell.output:
                shell.poll_invoke()
            seen.extend(shell.output)
            yield "third"

        shell.invoke(objects())
        same((seen, shell.output), (["first"], ["first", "second", "third"]))


def stop_a_command():
    with pool() as session:
        for cmdlet, parameters in (("Start-Sleep", {"Seconds": 600}), ("Write-Flood", {"Stream": "Output", "Count": 100_000_000})):
            shell = begun(session, cmdlet, **parameters)
            shell.begin_invoke()
            time.sleep(0.3)
            shell.stop()
            same(shell.state, PSInvocationState.STOPPED)
        same(len(run(session, "Get-Mailbox", ResultSize=1).output), 1)


def stop_before_the_end():
    with pool() as session:
        shell = begun(session, "Get-Mailbox", ResultSize="Unlimited")
        shell.begin_invoke()
        shell.stop()
        same(shell.state in (PSInvocationState.STOPPED, PSInvocationState.COMPLETED), True)
        same(len(run(session, "Get-Mailbox", ResultSize=1).output), 1)


def every_stream():
    session, ui = with_user()
    with session:
        shell = begun(session, "Write-Streams")
        shell.invoke()
        same(shell.state, PSInvocationState.COMPLETED)
        streams = {name: len(getattr(shell.streams, name)) for name in ("debug", "verbose", "warning", "error", "information", "progress")}
        same(streams, dict.fromkeys(streams, 1))
        same((len(shell.output), shell.streams.progress[0].activity, shell.streams.progress[0].percent_complete), (1, "Working", 50))
        same(ui.lines, ["DEBUG: one debug record", "VERBOSE: one verbose record", "WARNING: one warning record", "PROGRESS"])


def host_calls():
    session, ui = with_user()
    with session:
        if scripted:
            shell = run(session, "Invoke-HostCall")
            same((shell.output, ui.asked), (["typed here"], ["ReadLine"]))
            same([str(record.message_data) for record in shell.streams.information], ["got it"])
            same(ui.lines, ["got it"])
        else:
            [made] = run(session, "New-Mailbox", Shared=True, Name="host-calls").output
            run(session, "Remove-Mailbox", Identity=made.adapted_properties["Alias"])
            same((len(ui.asked), ui.asked[0][0]), (1, "&Yes"))
    # Nobody there: an error, no wait.
    with pool() as session:
        alone = begun(session, "Invoke-HostCall") if scripted else begun(session, "Remove-Mailbox", Identity="host-calls")
        try:
            alone.invoke()
        except Exception:
            pass
        same(alone.had_errors or alone.state == PSInvocationState.FAILED, True)


def secure_strings():
    with pool() as session:
        session.exchange_keys()
        password = "P@ss w\u00f6rd"
        secret = session.serialize(password, ObjectMeta("SS"))
        if scripted:
            same(run(session, "Measure-Secret", Secret=secret).output, [len(password)])
            same(run(session, "Get-Secret").output, [SECRET])
        else:
            domain = ready["organization"]
            run(session, "New-Mailbox", Name="secure-string", MicrosoftOnlineServicesID=f"secure-string@{domain}", Password=secret)
            same(aliases(run(session, "Get-Mailbox", Identity="secure-string")), ["secure-string"])


def secrets_of_the_host():
    for before in (True, False):
        session, ui = with_user()
        with session:
            # Not before: pypsrp hears the server's wish for its key and does not follow it; its user does when asked.
            if before:
                session.exchange_keys()
            same(run(session, "Read-Thing", Kind="secure").output, [f"secure({SECRET})"])
            [credential] = run(session, "Read-Thing", Kind="cred").output
            same(credential.adapted_properties, {"UserName": "bob", "Password": f"secure({SECRET})"})
            [answers] = run(session, "Read-Thing", Kind="fields").output
            same(answers, {"Name": "typed", "Pw": f"secure({SECRET})"})
            same(ui.asked, ["ReadLineAsSecureString", ["Cap", "Give it", "bob", ""], [["Name", "System.String"], ["Pw", "System.Security.SecureString"]]])
    # What is no secret, and what no key of this session opens, fails that command; the session goes on.
    session, ui = with_user()
    with session:
        session.exchange_keys()
        for text in ("not sealed", ET.fromstring("<SS>AAAAAAAAAAAAAAAAAAAAAA==</SS>")):
            ui.ReadLineAsSecureString = lambda runspace, pipeline: text
            shell = begun(session, "Read-Thing", Kind="secure")
            try:
                shell.invoke()
            except Exception:
                pass
            same(shell.state, PSInvocationState.FAILED)
        same(run(session, "Read-Thing", Kind="line").output, ["typed here"])


def nested_commands():
    session, ui = with_user()
    with session:
        ui.nested = True
        if scripted:
            same(run(session, "Invoke-HostCall").output, ["typed here"])
        else:
            run(session, "New-Mailbox", Shared=True, Name="nested")
            run(session, "Remove-Mailbox", Identity="nested")
        same(isinstance(ui.nested, list) and len(ui.nested), 2)


def disconnect_and_reconnect():
    with pool() as session:
        before = aliases(run(session, "Get-Mailbox", ResultSize=3))
        session.disconnect()
        fault(NOT_CONNECTED, session.shell.receive, "stdout")
        session.connect()
        same(aliases(run(session, "Get-Mailbox", ResultSize=3)), before)


def connect_from_another_process():
    session = pool()
    session.open()
    away = begun(session, "Get-Mailbox", ResultSize=40)
    away.begin_invoke()
    session.disconnect()
    program = [sys.executable, __file__, ready_file, token, "--take-over", session.id, away.id]
    other = subprocess.run(program, capture_output=True, text=True, timeout=120)
    same((other.returncode, other.stdout.split()[-4:] if other.stdout else other.stderr), (0, ["40", "2", "CLOSED", "gone"]))


def take_over(session_id, pipeline_id):
    """What the other process does."""
    [found] = [session for session in RunspacePool.get_runspace_pools(connection()) if session.id.upper() == session_id.upper()]
    # pypsrp assumes a configuration of its own for shells that it finds.
    found.shell.resource_uri = pool().shell.resource_uri
    found.connect()
    [shell] = [shell for name, shell in found.pipelines.items() if name.upper() == pipeline_id.upper()]
    print(len(shell.connect()), len(run(found, "Get-Mailbox", ResultSize=2).output))
    found.close()
    left = [session.id.upper() for session in RunspacePool.get_runspace_pools(connection())]
    print(found.state == RunspacePoolState.CLOSED and "CLOSED", "left" if session_id.upper() in left else "gone")


def command_metadata():
    with pool() as session:
        found = session.get_command_metadata(["Get-M*", "Nothing-*"], CommandType.CMDLET | CommandType.FUNCTION)
        names = [command.name for command in found]
        same("Get-Mailbox" in names and all(name.startswith("Get-M") for name in names), True)
        [command] = [command for command in found if command.name == "Get-Mailbox"]
        same({"Identity", "ResultSize", "ErrorAction"} <= set(command.parameters), True)
        same(len(session.get_command_metadata("*")) >= len(found), True)


def idle_expiry():
    with pool() as session:
        idle = pool(idle_timeout=2)
        idle.open()
        same(len(run(idle, "Get-Mailbox", ResultSize=1).output), 1)
        time.sleep(5)
        fault(UNKNOWN_SHELL, run, idle, "Get-Mailbox", ResultSize=1)
        same(len(run(session, "Get-Mailbox", ResultSize=1).output), 1)


def quota_fault():
    sessions = []
    try:
        while len(sessions) < 200:
            session = pool()
            try:
                session.open()
            except WSManFaultError as error:
                same((error.code, "maximum number of" in str(error.reason)), (SHELLS_OF_A_USER, True))
                break
            sessions.append(session)
        else:
            raise AssertionError("200 shells and no fault")
        # The ones that are open go on, and one that is closed makes room.
        same(len(run(sessions[0], "Get-Mailbox", ResultSize=1).output), 1)
        sessions.pop().close()
        sessions.append(pool())
        sessions[-1].open()
    finally:
        for session in sessions:
            session.close()


def small_envelopes():
    for size in (8192, 20000):
        wsman, sizes = connection(max_envelope_size=size), []
        send = wsman.transport.send

        def measured(message, **more):
            answer = send(message, **more)
            sizes.append((len(message), len(answer)))
            return answer

        wsman.transport.send = measured
        with pool(wsman) as session:
            same(len(run(session, "Get-Mailbox", ResultSize=100).output), 100)
            # A request that needs several envelopes.
            names = ["x" * 3000 + str(number) for number in range(20)]
            shell = begun(session, "Echo-Value", Value=names) if scripted else begun(session, "Get-Mailbox", Identity="x" * 60000)
            try:
                shell.invoke()
            except Exception:
                same(scripted, False)
            if scripted:
                same([list(item) for item in shell.output], [names])
        largest = max(max(pair) for pair in sizes)
        if largest > size:
            raise AssertionError(f"an envelope of {largest} bytes where {size} are allowed")


THINGS = [
    ("open with minimum and maximum of runspaces", open_with_numbers, "both"),
    ("run", run_a_command, "both"),
    ("input", input_of_a_pipeline, "both"),
    ("input as it comes", input_as_it_comes, "scripted"),
    ("stop", stop_a_command, "scripted"),
    ("stop before the end", stop_before_the_end, "both"),
    ("every stream", every_stream, "scripted"),
    ("host calls", host_calls, "both"),
    ("SecureString", secure_strings, "both"),
    ("secrets of the host", secrets_of_the_host, "scripted"),
    ("nested commands", nested_commands, "both"),
    ("disconnect and reconnect", disconnect_and_reconnect, "both"),
    ("connect from another process", connect_from_another_process, "both"),
    ("command metadata", command_metadata, "both"),
    ("idle expiry", idle_expiry, "both"),
    ("quota fault", quota_fault, "both"),
    ("small envelopes", small_envelopes, "both"),
]


def main():
    if "--take-over" in sys.argv:
        take_over(*sys.argv[-2:])
        return
    here = ("both", "scripted" if scripted else "lab")
    trying.all_of((name, thing) for name, thing, where in THINGS if where in here)


main()
