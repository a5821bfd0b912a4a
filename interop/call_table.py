"""The same calls through pypsrp and through plain HTTP: what each brought, in one shape, for the test that compares them.

A row is a class, a cmdlet, its parameters, and whether it fails. Prints one line of JSON a row.
"""

import lab
from pypsrp.complex_objects import PSInvocationState

given = lab.arguments(identity="a mailbox", other="another mailbox", caller="administrator, or reader: whose table")
bearer = lab.token(given)
rest = lab.Rest(given, bearer)
ONE, TWO, NOBODY = given.identity, given.other, "nobody-has-this-name"
SHARED = "the same name twice"

TABLE = [
    ("prepared", "Set-Mailbox", {"Identity": ONE, "DisplayName": SHARED}, False),
    ("prepared", "Set-Mailbox", {"Identity": TWO, "DisplayName": SHARED}, False),
    ("read", "Get-Mailbox", {"Identity": ONE}, False),
    ("read", "Get-Recipient", {"Identity": ONE}, False),
    ("read", "get-acceptedDOMAIN", {}, False),
    ("read", "Get-Mailbox", {"Filter": "Alias -like 'a*'", "ResultSize": "Unlimited"}, False),
    ("read", "Get-OrganizationConfig", {}, False),
    ("read", "Get-DistributionGroup", {"ResultSize": "Unlimited"}, False),
    ("not found", "Get-Mailbox", {"Identity": NOBODY}, True),
    ("not found", "Get-Recipient", {"Identity": NOBODY}, True),
    ("not found", "Set-Mailbox", {"Identity": NOBODY, "CustomAttribute1": "x"}, True),
    ("not found", "Get-DistributionGroup", {"Identity": "it's \u00fcnknown | with a pipe"}, True),
    ("ambiguous", "Set-Mailbox", {"Identity": SHARED, "CustomAttribute1": "x"}, True),
    ("ambiguous", "Set-Mailbox", {"Identity": SHARED.upper(), "CustomAttribute1": "x"}, True),
    ("ambiguous", "Set-Mailbox", {"Identity": SHARED, "CustomAttribute1": "x", "ErrorAction": "Stop"}, True),
    ("unknown parameter", "Get-Mailbox", {"NoSuchParameter": "x"}, True),
    ("unknown parameter", "Set-Mailbox", {"Identity": ONE, "CustomAttribute16": "x"}, True),
    ("unknown parameter", "Get-AcceptedDomain", {"Nonsense": 1}, True),
    ("wrong type", "Set-Mailbox", {"Identity": ONE, "ProhibitSendQuota": "much"}, True),
    ("wrong type", "Set-Mailbox", {"Identity": ONE, "HiddenFromAddressListsEnabled": "perhaps"}, True),
    ("wrong type", "Set-Mailbox", {"Identity": ONE, "DeliverToMailboxAndForward": "2.5"}, True),
    ("missing mandatory", "Set-Mailbox", {}, True),
    ("missing mandatory", "Set-Mailbox", {"CustomAttribute1": "x"}, True),
    ("missing mandatory", "Set-Mailbox", {"DisplayName": "x", "WhatIf": True}, True),
    ("out of range", "Set-Mailbox", {"Identity": ONE, "CustomAttribute1": "x" * 1025}, True),
    ("out of range", "Set-Mailbox", {"Identity": ONE, "DisplayName": "x" * 300}, True),
    ("out of range", "Get-Mailbox", {"ResultSize": -1}, True),
    ("bad enumeration member", "Get-Recipient", {"RecipientTypeDetails": "NoSuchType"}, True),
    ("bad enumeration member", "Get-Mailbox", {"RecipientTypeDetails": "NoSuchType"}, True),
    ("bad enumeration member", "Get-Mailbox", {"Identity": ONE, "ErrorAction": "Perhaps"}, True),
    ("no such cmdlet", "Get-NoSuchThing", {}, True),
    ("no such cmdlet", "Set-NoSuchThing", {"Identity": ONE}, True),
    ("no such cmdlet", "Get-Mailbox ", {}, True),
    ("warnings", "Get-Mailbox", {"ResultSize": 1}, False),
    ("warnings", "Set-Mailbox", {"Identity": ONE, "DisplayName": SHARED}, False),
    ("warnings", "Get-Recipient", {"ResultSize": 2}, False),
    ("preferences", "Get-Mailbox", {"Identity": NOBODY, "ErrorAction": "SilentlyContinue"}, False),
    ("preferences", "Get-Mailbox", {"Identity": NOBODY, "ErrorAction": "Ignore"}, False),
    ("preferences", "Get-Mailbox", {"Identity": NOBODY, "ErrorAction": "Stop"}, True),
    ("preferences", "Get-Mailbox", {"ResultSize": 1, "WarningAction": "SilentlyContinue"}, False),
    ("preferences", "Set-Mailbox", {"Identity": ONE, "DisplayName": SHARED, "WarningAction": "Ignore"}, False),
    ("waits for somebody", "Get-Mailbox", {"Identity": NOBODY, "ErrorAction": "Inquire"}, True),
    ("waits for somebody", "Get-Mailbox", {"ResultSize": 1, "WarningAction": "Inquire"}, True),
    ("waits for somebody", "Set-Mailbox", {"Identity": ONE, "CustomAttribute3": "x", "WarningAction": "inquire"}, True),
    ("waits for somebody", "Get-Mailbox", {"ResultSize": 1, "ErrorAction": "Suspend"}, True),
    ("changed nothing", "Set-Mailbox", {"Identity": ONE, "CustomAttribute3": "x", "WhatIf": True}, False),
    ("changed nothing", "Get-Mailbox", {"Filter": "CustomAttribute3 -eq 'x'"}, False),
    ("changed nothing", "Set-Mailbox", {"Identity": NOBODY, "WhatIf": True, "CustomAttribute3": "x"}, True),
    ("duplicate address", "Set-Mailbox", {"Identity": ONE, "EmailAddresses": {"Add": TWO}}, True),
    ("duplicate address", "Set-Mailbox", {"Identity": ONE, "EmailAddresses": [f"SMTP:{ONE}", f"smtp:{TWO}"]}, True),
    ("duplicate address", "Set-Mailbox", {"Identity": ONE, "EmailAddresses": {"Add": [f"smtp:{TWO.upper()}"]}}, True),
    ("foreign domain", "Set-Mailbox", {"Identity": ONE, "EmailAddresses": {"Add": "smtp:somebody@elsewhere.example"}}, True),
    ("foreign domain", "Set-Mailbox", {"Identity": ONE, "EmailAddresses": ["SMTP:somebody@elsewhere.example"]}, True),
    ("foreign domain", "Set-Mailbox", {"Identity": ONE, "WindowsEmailAddress": "somebody@elsewhere.example"}, True),
    ("permissions", "Add-MailboxPermission", {"Identity": ONE, "User": "nobody-has-this-name", "AccessRights": "FullAccess"}, True),
    ("permissions", "Add-MailboxPermission", {"Identity": ONE, "User": TWO, "AccessRights": ["SendAs"]}, True),
    ("permissions", "Add-MailboxPermission", {"Identity": ONE, "User": "Board", "AccessRights": "FullAccess"}, True),
    ("permissions", "Add-MailboxPermission", {"Identity": ONE, "User": TWO, "AccessRights": ["FullAccess"], "WhatIf": True}, False),
    ("permissions", "Get-MailboxPermission", {"Identity": ONE}, False),
    ("permissions", "Add-RecipientPermission", {"Identity": ONE, "Trustee": "Board", "AccessRights": "SendAs", "Confirm": False}, True),
    ("permissions", "Remove-RecipientPermission", {"Identity": ONE, "Trustee": TWO, "AccessRights": "SendAs", "Confirm": False}, False),
    ("permissions", "Get-RecipientPermission", {"Trustee": NOBODY}, True),
    ("groups", "Get-DistributionGroupMember", {"Identity": NOBODY}, True),
    ("groups", "Set-DistributionGroup", {"Identity": "Board", "MemberJoinRestriction": "Perhaps"}, True),
    ("groups", "Set-DistributionGroup", {"Identity": "Board", "ManagedBy": NOBODY}, True),
    ("groups", "Set-DistributionGroup", {"Identity": "Board", "ManagedBy": TWO, "WhatIf": True}, False),
    ("groups", "Get-Group", {"Identity": "Board"}, False),
    ("bad filter", "Get-Mailbox", {"Filter": "Alias -like"}, True),
    ("bad filter", "Get-Mailbox", {"Filter": "NoSuchProperty -eq 'x'"}, True),
    ("bad filter", "Get-Recipient", {"Filter": "((Alias -eq 'x')"}, True),
]

# The calls of an application that may only read: what changes something does not exist for it, with parameters that would bind or not.
READER = [
    ("read", "Get-Mailbox", {"Identity": ONE}, False),
    ("not in the roles", "Set-Mailbox", {"Identity": ONE, "CustomAttribute1": "x"}, True),
    ("not in the roles", "Set-Mailbox", {"NoSuchParameter": "x"}, True),
    ("not in the roles", "Set-Mailbox", {"Identity": ONE, "CustomAttribute1": "x", "WhatIf": True}, True),
    ("not in the roles", "Remove-Mailbox", {"Identity": TWO, "Confirm": False}, True),
    ("not in the roles", "Add-MailboxPermission", {"Identity": ONE, "User": TWO, "AccessRights": "FullAccess"}, True),
    ("not in the roles", "Set-DistributionGroup", {}, True),
    ("not found", "Get-Mailbox", {"Identity": NOBODY}, True),
    ("read", "Get-Mailbox", {"Identity": TWO}, False),
]


def session_error(record):
    return {
        "exception": record.exception.types[0].removeprefix("Deserialized."),
        "message": str(record.exception.adapted_properties.get("Message", record.exception)),
        "category": record.category,
        "target": record.target_name or "",
        "reason": record.reason or "",
    }


def over_session(session, cmdlet, parameters):
    shell = lab.run(session, cmdlet, **parameters)
    return {
        "objects": len(shell.output),
        "errors": [session_error(record) for record in shell.streams.error],
        "warnings": [record.message for record in shell.streams.warning],
        "ended": shell.state == PSInvocationState.COMPLETED,
    }


def over_rest(cmdlet, parameters):
    answer, page = rest.post(cmdlet, parameters)
    told = {"status": answer.status, "objects": len(page.get("value", [])), "warnings": page.get("@adminapi.warnings", []), "texts": page.get("@adminapi.errors", [])}
    error = page.get("error")
    if error:
        detail = error["details"][0]
        _, exception, message = detail["message"].split("|", 2)
        told["error"] = {"exception": exception, "message": message, "category": detail["code"], "target": detail["target"], "reason": answer.headers["x-ExceptionType"]}
        told["warnings"] = error["@adminapi.warnings"]
    elif answer.status != 200:
        told["reason"] = answer.headers.get("x-ms-diagnostics")
    return told


with lab.pool(given, bearer) as session:
    for kind, cmdlet, parameters, fails in READER if given.caller == "reader" else TABLE:
        lab.emit(kind, cmdlet=cmdlet, parameters=parameters, fails=fails, session=over_session(session, cmdlet, parameters), rest=over_rest(cmdlet, parameters))
