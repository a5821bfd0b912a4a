"""The same calls through pypsrp and through plain HTTP: what each brought, in one shape, for the test that compares them.

A row is a class, a cmdlet, its parameters, and how many errors it has. Where a list of identities follows, a session gets them as input,
and REST one call each, as Exchange's module does it; where a cmdlet and its parameters follow, that call undoes what the session did, so
that REST finds the same. Prints one line of JSON a row.
"""

import lab
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import AuthenticationError, WinRMTransportError
from pypsrp.messages import MessageType
from pypsrp.powershell import PowerShell

given = lab.arguments(identity="a mailbox", other="another mailbox", caller="whose table: administrator, recipients, reader, powerless")
bearer = lab.token(given)
rest = lab.Rest(given, bearer)
ONE, TWO, NOBODY = given.identity, given.other, "nobody-has-this-name"
SHARED = "the same name twice"
FULL = {"Identity": ONE, "User": TWO, "AccessRights": "FullAccess"}
SEND_AS = {"Identity": ONE, "Trustee": TWO, "AccessRights": "SendAs"}

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
    ("no such set of parameters", "Get-Recipient", {"Identity": ONE, "Anr": "ann"}, True),
    ("no such set of parameters", "Add-MailboxPermission", {**FULL, "Owner": TWO}, True),
    ("no such set of parameters", "Remove-MailboxPermission", {"Identity": ONE, "ResetDefault": True, "ClearAutoMapping": True}, True),
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
    ("preferences", "Get-Mailbox", {"Identity": NOBODY, "ErrorAction": "Continue"}, True),
    ("preferences", "Set-Mailbox", {"Identity": NOBODY, "CustomAttribute1": "x", "ErrorAction": "silentlycontinue"}, False),
    ("preferences", "Set-Mailbox", {"Identity": ONE, "DisplayName": SHARED, "WarningAction": "Stop"}, True),
    ("preferences", "Get-Mailbox", {"Identity": ONE, "WarningAction": "Stop", "ErrorAction": "Stop"}, False),
    ("preferences", "Get-Mailbox", {"ResultSize": 1, "WarningAction": "Continue"}, False),
    ("preferences", "Set-Mailbox", {"Identity": ONE, "CustomAttribute16": "x", "ErrorAction": "SilentlyContinue"}, True),
    ("preferences", "Set-Mailbox", {"Identity": ONE, "ProhibitSendQuota": "much", "ErrorAction": "Ignore"}, True),
    ("several errors", "Get-Mailbox", {}, 2, [NOBODY, NOBODY + "-either"]),
    ("several errors", "Get-Recipient", {}, 3, [NOBODY, ONE, SHARED, NOBODY + "-either"]),
    ("several errors", "Set-Mailbox", {"DisplayName": SHARED}, 2, [NOBODY, SHARED, ONE]),
    ("several errors", "Get-DistributionGroup", {}, 2, [ONE, "Board", NOBODY]),
    ("error amid output", "Get-Mailbox", {}, 1, [ONE, NOBODY, TWO]),
    ("error amid output", "Get-Recipient", {"ErrorAction": "Continue"}, 1, [TWO, ONE, SHARED, "Board"]),
    ("error amid output", "Get-RecipientPermission", {}, 1, [ONE, NOBODY, TWO]),
    ("error amid output", "Get-Mailbox", {"ErrorAction": "Stop"}, 1, [ONE, NOBODY, TWO]),
    ("error amid output", "Get-Mailbox", {"ErrorAction": "SilentlyContinue"}, 0, [ONE, NOBODY, TWO]),
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
    ("permissions", "Add-MailboxPermission", {"Identity": ONE, "Owner": NOBODY}, True),
    ("permissions", "Remove-MailboxPermission", {"Identity": NOBODY, "ResetDefault": True, "Confirm": False}, True),
    ("permissions", "Get-MailboxPermission", {"Identity": ONE, "SoftDeletedMailbox": True}, True),
    ("permissions", "Add-MailboxPermission", {**FULL, "InheritanceType": "Perhaps"}, True),
    ("rights", "Add-MailboxPermission", {**FULL, "AutoMapping": False}, False, ("Remove-MailboxPermission", FULL)),
    ("rights", "Add-MailboxPermission", {**FULL, "AutoMapping": False, "WarningAction": "Stop"}, True),
    ("rights", "Add-MailboxPermission", {**FULL, "Deny": True, "InheritanceType": "None"}, False, ("Remove-MailboxPermission", {**FULL, "Deny": True, "InheritanceType": "None"})),
    ("rights", "Remove-MailboxPermission", {"Identity": ONE, "ClearAutoMapping": True, "Confirm": False}, False),
    ("rights", "Add-MailboxPermission", {"Identity": ONE, "Owner": TWO}, False, ("Remove-MailboxPermission", {"Identity": ONE, "ResetDefault": True})),
    ("rights", "Get-MailboxPermission", {"Identity": ONE, "Owner": True}, False),
    ("rights", "Remove-MailboxPermission", {"Identity": ONE, "ResetDefault": True, "Confirm": False}, False, ("Add-MailboxPermission", FULL)),
    ("rights", "Add-RecipientPermission", {**SEND_AS, "Confirm": False}, False, ("Remove-RecipientPermission", SEND_AS)),
    ("rights", "Get-RecipientPermission", {"Trustee": TWO}, False),
    ("rights", "Remove-RecipientPermission", {**SEND_AS, "Confirm": False}, False, ("Add-RecipientPermission", SEND_AS)),
    ("rights", "Remove-RecipientPermission", {**SEND_AS, "Confirm": False, "WarningAction": "Stop"}, True),
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


# The calls of an application that manages recipients: it has the cmdlet, but not every parameter.
RECIPIENTS = [
    ("read", "Get-Mailbox", {"Identity": ONE}, 0),
    ("parameter not in the roles", "Set-Mailbox", {"Identity": ONE, "LitigationHoldEnabled": True}, 1),
    ("parameter not in the roles", "Set-Mailbox", {"Identity": ONE, "CustomAttribute1": "x", "AuditEnabled": False}, 1),
    ("parameter not in the roles", "Set-Mailbox", {"Identity": NOBODY, "litigationholddate": "2026-01-02"}, 1),
    ("parameter not in the roles", "Set-Mailbox", {"Identity": ONE, "LitigationHoldOwner": "x", "WhatIf": True}, 1),
    ("unknown parameter", "Set-Mailbox", {"Identity": ONE, "NoSuchParameter": "x"}, 1),
    ("not in the roles", "Get-OrganizationConfig", {}, 1),
    ("read", "Get-Mailbox", {"Filter": "LitigationHoldEnabled -eq $true"}, 0),
]

TABLES = {"administrator": TABLE, "recipients": RECIPIENTS, "reader": READER}


class Recording(PowerShell):
    """Notes how many objects came before each error: pypsrp itself keeps the streams apart."""

    def __init__(self, session):
        super().__init__(session)
        self.places = []
        self.seen = 0

    def poll_invoke(self, timeout=None):
        receive = self.runspace_pool._receive

        def noting(*arguments, **named):
            messages = receive(*arguments, **named)
            for kind, *_ in messages:
                if kind == MessageType.PIPELINE_OUTPUT:
                    self.seen += 1
                elif kind == MessageType.ERROR_RECORD:
                    self.places.append(self.seen)
            return messages

        self.runspace_pool._receive = noting
        try:
            super().poll_invoke(timeout)
        finally:
            self.runspace_pool._receive = receive


def name_of(properties):
    return str(properties.get("Identity") or properties.get("Name"))


def session_error(record):
    return {
        "types": [name.removeprefix("Deserialized.") for name in record.exception.types],
        "exception": record.exception.types[0].removeprefix("Deserialized."),
        "message": str(record.exception.adapted_properties.get("Message", record.exception)),
        "category": record.category,
        "target": record.target_name or "",
        "reason": record.reason or "",
        "activity": record.activity or "",
        "id": record.fq_error,
    }


def over_session(session, cmdlet, parameters, piped):
    shell = Recording(session)
    shell.add_cmdlet(cmdlet)
    for name, value in parameters.items():
        shell.add_parameter(name, value)
    shell.invoke(input=piped)
    return {
        "objects": [name_of(item.adapted_properties) for item in shell.output],
        "errors": [session_error(record) for record in shell.streams.error],
        "places": shell.places,
        "warnings": [record.message for record in shell.streams.warning],
        "ended": shell.state == PSInvocationState.COMPLETED,
    }


def over_rest(cmdlet, parameters, piped):
    told = {"objects": [], "errors": [], "places": [], "warnings": [], "texts": []}
    for identity in piped or [None]:
        answer, page = rest.post(cmdlet, {"Identity": identity, **parameters} if identity else parameters)
        told["status"] = answer.status
        told["objects"] += [name_of(item) for item in page.get("value", [])]
        told["texts"] += page.get("@adminapi.errors", [])
        told["warnings"] += page.get("@adminapi.warnings", [])
        error = page.get("error")
        if error:
            detail = error["details"][0]
            string_id, exception, message = detail["message"].split("|", 2)
            told["errors"].append({
                "exception": exception,
                "message": message,
                "category": detail["code"],
                "target": detail["target"],
                "reason": answer.headers["x-ExceptionType"],
                "string id": string_id,
                "server": answer.headers["X-CalculatedBETarget"].split(".")[0],
            })
            told["places"].append(len(told["objects"]))
            told["warnings"] += error["@adminapi.warnings"]
        elif answer.status != 200:
            told["reason"] = answer.headers.get("x-ms-diagnostics")
        if answer.status != 200 and str(parameters.get("ErrorAction")) == "Stop":
            break
    return told


def opened(bearer):
    """What a session is answered that begins with this token."""
    try:
        with lab.pool(given, bearer):
            return 200
    except AuthenticationError:
        return 401
    except WinRMTransportError as error:
        return error.code


def refused(kind, case, bearer, cmdlet="Get-Mailbox", **headers):
    """One call that never reaches a cmdlet, as raw HTTP."""
    plain = lab.Rest(given, bearer)
    sent = {**plain.headers, **headers}
    plain.server.request("POST", plain.path, '{"CmdletInput":{"CmdletName":"%s"}}' % cmdlet, {name: value for name, value in sent.items() if value is not None})
    answer = plain.server.getresponse()
    body = answer.read()
    lab.emit(
        kind,
        case=case,
        fails=1,
        status=answer.status,
        bytes=len(body),
        zeros=body.count(0),
        encoding=answer.headers.get("Content-Encoding"),
        challenge=answer.headers.get("WWW-Authenticate"),
        diagnostics=answer.headers.get("x-ms-diagnostics"),
        session=opened(bearer) if cmdlet == "Get-Mailbox" else None,
    )


def refusals():
    refused("401", "no token", "", Authorization=None)
    refused("401", "no token at all, but a word", "nonsense")
    refused("401", "three parts of nothing", "e30.e30.AAAA")
    refused("401", "altered", bearer[:-6] + "AAAAAA")
    graph = lab.application(given).acquire_token_for_client(["https://graph.microsoft.com/.default"])["access_token"]
    refused("401", "for Graph", graph)
    refused("401", "another scheme", "", Authorization="Digest username=x")
    refused("403", "no such cmdlet", bearer, "Get-NoSuchThing")
    refused("403", "no name", bearer, " ")
    refused("403", "not in the roles", bearer, "Set-Mailbox")


if given.caller == "powerless":
    refused("403", "no directory role", bearer)
else:
    if given.caller == "reader":
        refusals()
    with lab.pool(given, bearer) as session:
        for kind, cmdlet, parameters, fails, *more in TABLES[given.caller]:
            piped = next((item for item in more if isinstance(item, list)), None)
            row = {"cmdlet": cmdlet, "parameters": parameters, "piped": piped, "fails": int(fails)}
            in_session = over_session(session, cmdlet, parameters, piped)
            for undo in (item for item in more if isinstance(item, tuple)):
                assert rest.post(*undo)[0].status == 200, undo
            lab.emit(kind, **row, session=in_session, rest=over_rest(cmdlet, parameters, piped))
