"""-WhatIf and -Confirm on both transports: the prompt of a session, with and without somebody to answer, and the two steps of REST.

Prints one line of JSON a step: what was asked, how it ended, and what the property holds afterwards.
"""

from pypsrp.complex_objects import PSInvocationState
from pypsrp.host import PSHost, PSHostUserInterface

import lab

given = lab.arguments(identity="a mailbox to change", removed="a mailbox to remove")
bearer = lab.token(given)
asked = []


class Answering(PSHostUserInterface):
    """Somebody at the keyboard who always gives the same answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def PromptForChoice(self, runspace, pipeline, caption, message, choices, default_choice):
        asked.append({"caption": caption, "message": message, "labels": [choice.extended_properties["label"] for choice in choices], "default": default_choice})
        return self.answer


def host(answer):
    return PSHost(None, None, False, "counterpart", None, Answering(answer), "1.0")


def tell(step, session, **parameters):
    asked.clear()
    shell = lab.run(session, "Set-Mailbox", Identity=given.identity, CustomAttribute2=step, **parameters)
    after = lab.run(session, "Get-Mailbox", Identity=given.identity).output[0].adapted_properties["CustomAttribute2"]
    lab.emit(
        step,
        asked=list(asked),
        completed=shell.state == PSInvocationState.COMPLETED,
        errors=[{"id": record.fq_error, "message": str(record)} for record in shell.streams.error],
        said=[str(record.message_data) for record in shell.streams.information],
        after=after,
    )


for name, answer in (("yes", 0), ("no", 1), ("nonsense", 77)):
    with lab.pool(given, bearer, host(answer)) as session:
        tell(name, session, Confirm=True)
with lab.pool(given, bearer, host(0)) as session:
    tell("not asked for", session)
    tell("confirm false", session, Confirm=False)
    tell("what if", session, WhatIf=True, Confirm=True)
with lab.pool(given, bearer) as session:
    tell("nobody", session, Confirm=True)
    tell("nobody what if", session, WhatIf=True)

rest = lab.Rest(given, bearer)
for step, parameters in (
    ("rest what if", {"WhatIf": True}),
    ("rest question", {"Confirm": True}),
    ("rest answer", {"Confirm": False}),
    ("rest plain", {}),
):
    answer, page = rest.post("Set-Mailbox", {"Identity": given.identity, "CustomAttribute2": step, **parameters})
    _, read = rest.post("Get-Mailbox", {"Identity": given.identity})
    lab.emit(
        step,
        status=answer.status,
        question=page.get("@adminapi.confirmationmessage"),
        objects=page.get("value"),
        after=read["value"][0]["CustomAttribute2"],
    )
# Rights: giving one that lets somebody send as another asks by itself in a session, and so does taking one away.
RIGHT = {"Identity": given.identity, "Trustee": given.removed, "AccessRights": "SendAs"}
FULL = {"Identity": given.identity, "User": given.removed, "AccessRights": "FullAccess"}


def rights():
    """How many rows SendAs and FullAccess of that user have."""
    return [
        len(rest.post("Get-RecipientPermission", {"Identity": given.identity, "Trustee": given.removed})[1]["value"]),
        len(rest.post("Get-MailboxPermission", {"Identity": given.identity, "User": given.removed})[1]["value"]),
    ]


def right(step, session, cmdlet, parameters):
    asked.clear()
    shell = lab.run(session, cmdlet, **parameters)
    lab.emit(step, asked=list(asked), errors=[record.fq_error for record in shell.streams.error], rights=rights())


def right_over_rest(step, cmdlet, parameters):
    answer, page = rest.post(cmdlet, parameters)
    lab.emit(step, status=answer.status, question=page.get("@adminapi.confirmationmessage"), rights=rights())


with lab.pool(given, bearer, host(1)) as session:
    right("send as no", session, "Add-RecipientPermission", RIGHT)
with lab.pool(given, bearer, host(0)) as session:
    right("send as yes", session, "Add-RecipientPermission", RIGHT)
    right("full access", session, "Add-MailboxPermission", FULL)
with lab.pool(given, bearer) as session:
    right("nobody takes", session, "Remove-MailboxPermission", FULL)
    right("nobody is asked", session, "Remove-RecipientPermission", {**RIGHT, "Confirm": False})
right_over_rest("rest: is it meant?", "Remove-MailboxPermission", {**FULL, "Confirm": True})
right_over_rest("rest: it is", "Remove-MailboxPermission", {**FULL, "Confirm": False})
right_over_rest("rest: unasked", "Add-RecipientPermission", RIGHT)

# What has a high impact asks by itself in a session, and not over REST.
def remove(step, session):
    asked.clear()
    shell = lab.run(session, "Remove-Mailbox", Identity=given.removed)
    lab.emit(step, asked=len(asked), errors=[record.fq_error for record in shell.streams.error], left=rest.post("Get-Mailbox", {"Identity": given.removed})[0].status)


with lab.pool(given, bearer, host(1)) as session:
    remove("remove no", session)
with lab.pool(given, bearer) as session:
    remove("remove nobody", session)
with lab.pool(given, bearer, host(0)) as session:
    remove("remove yes", session)
_, log = rest.post("Search-AdminAuditLog", {"Cmdlets": ["Set-Mailbox"]})
values = [{item["Name"]: item["Value"] for item in entry["CmdletParameters"]} for entry in log["value"] if entry["Succeeded"]]
lab.emit("log", carried_out=[parameters["CustomAttribute2"] for parameters in values])
