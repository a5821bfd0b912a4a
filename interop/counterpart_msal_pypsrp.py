"""msal signs in with a certificate, pypsrp opens a session and reads output, error and warning streams.

Prints one line of JSON a step; the test that starts it judges them.
"""

import base64
import json

from pypsrp.complex_objects import PSInvocationState, RunspacePoolState

import lab

given = lab.arguments(identity="a mailbox to change", value="what CustomAttribute1 becomes")
client = lab.application(given)
answer = client.acquire_token_for_client([lab.RESOURCE + "/.default"])
if "access_token" not in answer:
    lab.emit("token", error=answer.get("error"), description=answer.get("error_description"), codes=answer.get("error_codes"))
    raise SystemExit(1)
bearer = answer["access_token"]
claims = json.loads(base64.urlsafe_b64decode(bearer.split(".")[1] + "=="))
lab.emit("token", token_type=answer["token_type"], expires_in=answer["expires_in"], claims=claims)
again = client.acquire_token_for_client([lab.RESOURCE + "/.default"])
lab.emit("cached", source=again.get("token_source"))


def streams(step, shell):
    """What the three streams held after the pipeline's end; a terminating error is the last one of the error stream."""
    objects = [item for item in shell.output if hasattr(item, "adapted_properties")]
    lab.emit(
        step,
        completed=shell.state == PSInvocationState.COMPLETED,
        failed=shell.state == PSInvocationState.FAILED,
        count=len(shell.output),
        types=[item.types for item in objects[:1]],
        output=[{name: None if value is None else str(value) for name, value in item.adapted_properties.items()} for item in objects[:3]],
        errors=[
            {
                "message": str(record.exception.adapted_properties.get("Message", record.exception)),
                "id": record.fq_error,
                "category": record.category,
                "reason": record.reason,
                "target": record.target_name,
                "exception": record.exception.types,
            }
            for record in shell.streams.error
        ],
        warnings=[record.message for record in shell.streams.warning],
    )


with lab.pool(given, bearer) as session:
    lab.emit("opened", opened=session.state == RunspacePoolState.OPENED)
    streams("get", lab.run(session, "Get-Mailbox", ResultSize=5))
    streams("set", lab.run(session, "Set-Mailbox", Identity=given.identity, CustomAttribute1=given.value))
    streams("read back", lab.run(session, "Get-Mailbox", Identity=given.identity))
    streams("unchanged", lab.run(session, "Set-Mailbox", Identity=given.identity, CustomAttribute1=given.value))
    streams("not found", lab.run(session, "Get-Mailbox", Identity="nobody-has-this-name"))
    streams("unknown parameter", lab.run(session, "Get-Mailbox", NoSuchParameter="x"))
    streams("unknown cmdlet", lab.run(session, "Get-NoSuchThing"))
    # What Import-PSSession asks first; pypsrp checks the count against what comes.
    described = session.get_command_metadata(["Get-Mailbox", "SET-mail*", "Get-NoSuchThing"])
    lab.emit(
        "metadata",
        commands={
            command.name: {
                "type": command.command_type.value,
                "parameters": {name: parameter.switch_parameter for name, parameter in command.parameters.items() if name == parameter.name and parameter.dynamic is False},
            }
            for command in described
        },
    )
    lab.emit("all metadata", count=len(session.get_command_metadata("*")))
lab.emit("closed", closed=session.state == RunspacePoolState.CLOSED)
