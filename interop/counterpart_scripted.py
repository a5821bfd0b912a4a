"""pypsrp against the scripted endpoint: every command, input, a prompt, every stream, and stops in the middle.

Prints one line of JSON a step.
"""

import json
import pathlib
import sys
import threading
import urllib.parse

from pypsrp.complex_objects import ObjectMeta, PSInvocationState
from pypsrp.host import PSHost, PSHostUserInterface
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

import lab

ready = json.loads(pathlib.Path(sys.argv[1]).read_text())


class Answering(PSHostUserInterface):
    """Somebody at the keyboard, who sees what is written."""

    def ReadLine(self, runspace, pipeline):
        return "typed here"


def connection():
    url = urllib.parse.urlsplit(ready["powershell"])
    return WSMan(
        url.hostname, port=url.port, path=url.path.strip("/"), ssl=True, auth="basic", username=ready["user"], password=ready["password"],
        cert_validation=ready["ca_file"], no_proxy=True,
    )


def tell(step, shell):
    shell.streams.information
    lab.emit(
        step,
        state=shell.state,
        output=[item if isinstance(item, (str, int, list)) else item.adapted_properties.get("Alias") for item in shell.output],
        types=[type(item).__name__ for item in shell.output[:1]],
        errors=[str(record) for record in shell.streams.error],
        warnings=[str(record) for record in shell.streams.warning],
        counts={name: len(getattr(shell.streams, name)) for name in ("debug", "verbose", "warning", "error", "information", "progress")},
        activities=[[record.activity, record.percent_complete] for record in shell.streams.progress[:1]],
    )


def run(step, session, cmdlet, given=None, **parameters):
    shell = PowerShell(session)
    shell.add_cmdlet(cmdlet).add_parameters(parameters)
    shell.invoke(given)
    tell(step, shell)


with RunspacePool(connection(), configuration_name="Microsoft.Exchange", host=PSHost(None, None, False, "counterpart", None, Answering(), "1.0")) as session:
    run("mailboxes", session, "Get-Mailbox", ResultSize=7)
    run("missing", session, "Get-Mailbox", Identity="missing.one")
    run("sleep", session, "Start-Sleep", Seconds=0)
    run("input", session, "Echo-Input", given=[1, "two", [3, 4]])
    run("value", session, "Echo-Value", Value=["x", 5])
    run("streams", session, "Write-Streams")
    run("host", session, "Invoke-HostCall")
    # Each object as it comes: the first is back while the last has not been made. (pypsrp sends one when it has taken the next.)
    shell, seen = PowerShell(session), []

    def objects():
        yield "first"
        yield "second"
        while not shell.output:
            shell.poll_invoke()
        seen.extend(shell.output)
        yield "third"

    shell.add_cmdlet("Echo-Input").invoke(objects())
    lab.emit("streaming input", seen=seen, output=shell.output)
    # A secret each way.
    session.exchange_keys()
    run("get secret", session, "Get-Secret")
    run("measure secret", session, "Measure-Secret", Secret=session.serialize("p@ss w\u00f6rd", ObjectMeta("SS")))
    run("flood", session, "Write-Flood", Stream="Verbose", Count=3000)
    for step, cmdlet, parameters in (("stopped sleep", "Start-Sleep", {"Seconds": 600}), ("stopped flood", "Write-Flood", {"Stream": "Output", "Count": 100_000_000})):
        shell = PowerShell(session)
        shell.add_cmdlet(cmdlet).add_parameters(parameters)
        shell.begin_invoke()
        threading.Event().wait(0.3)
        shell.stop()
        lab.emit(step, stopped=shell.state == PSInvocationState.STOPPED)
    run("after", session, "Get-Mailbox", ResultSize=1)
