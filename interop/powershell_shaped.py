"""A PowerShell-shaped client (see shaped.py) against the lab: the imports and interactive session that were recorded, the recorded calls of
cmdlets that the lab lacks, and the encodings of parameters with cmdlets that are there. Prints one line of JSON a step.
"""

import re
import uuid

import lab
from shaped import (
    ERROR, OUTPUT, STATE, UNKNOWN, WARNING, Client, bag, calls, check_error, check_fault, check_metadata, check_view, count, encode, failures, need,
    recorded, replay,
)
from unix_transport import SHELL, TARGET, Later, basic, connect, envelope, given, named, pipeline, read_answer, request, whole

_, commands = replay("02-import-one-command.txt")
names = check_metadata([content for kind, content in commands[0][1] if kind == OUTPUT], ["Set-Mailbox"])
lab.emit("import", names=names, states=[state for _, _, state in commands], errors=count(commands[1][1], ERROR))

_, commands = replay("03-import-with-format-data.txt")
counted = [content for kind, content in commands[1][1] if kind == OUTPUT]
views = [content for kind, content in commands[2][1] if kind == OUTPUT]
for view in views:
    check_view(view)
lab.emit("format data", states=[state for _, _, state in commands], same=int(bag(counted[0])["Count"].text) == len(views), views=len(views))

# Cmdlets that the lab lacks: each call ends as the session's own answer to such a name, whatever its parameters.
_, commands = replay("04-proxy-parameters.txt")
lab.emit("unknown", states=sorted({state for _, _, state in commands}))
_, commands = replay("06-streams-and-errors.txt")
errors = [name for _, messages, _ in commands for name in failures(messages)]
lab.emit("refused", script="ScriptsNotAllowed" in errors, unknown="CommandNotFoundException" in errors)
for name in ["05-pipeline-input.txt", "07-stop.txt"]:
    _, commands = replay(name)
    lab.emit(name, states=[state for _, _, state in commands])

_, commands = replay("09-enter-session.txt")
names = check_metadata([content for kind, content in commands[0][1] if kind == OUTPUT], ["Out-Default", "Exit-PSSession"])
lines = next(messages for body, messages, _ in commands if '<S N="Cmd">Get-Mailbox' in body)
leaving = next(messages for body, messages, _ in commands if '<S N="Cmd">Exit-PSSession' in body)
shown = [messages for body, messages, _ in commands[1:] if '<B N="NoInput">false' in body]
lab.emit(
    "enter", names=sorted(names), output=count(lines, OUTPUT), written=[m for m, _, _ in calls(lines)][:1], leaving=calls(leaving),
    errors=[m for messages in shown for m, _, _ in calls(messages)],
)

# The encodings of section 6 with a cmdlet that is there, and pipeline input bound by the server.
client = Client()
switch = '<Obj N="V" RefId="{0}"><TN RefId="{0}"><T>System.Management.Automation.SwitchParameter</T></TN><ToString>{1}</ToString><Props><B N="IsPresent">{2}</B></Props></Obj>'
proxy = lambda name, value: (f'<S N="N">-{name}:</S>', value.replace(">", ' N="V">', 1))
bare = lambda value: ('<Nil N="N" />', value.replace(">", ' N="V">', 1))
who = f"<S>{given.identity}</S>"
for step, cmdlet, arguments in [
    ("in braces", "Get-Mailbox", [*named("Identity", who)]),
    ("of a proxy", "get-mailbox", [proxy("Identity", who), ('<S N="N">-ErrorAction:</S>', '<S N="V">Stop</S>')]),
    ("by position", "Get-Mailbox", [bare(who)]),
    ("by a prefix", "Get-Mailbox", [('<S N="N">Ident</S>', who.replace(">", ' N="V">', 1))]),
    ("a number with a text", "Get-Mailbox", [('<S N="N">-ResultSize:</S>', '<Obj N="V" RefId="90"><ToString>0x1</ToString><I32>1</I32></Obj>')]),
    ("a script block", "Get-Mailbox", [proxy("Filter", "<SBK>Alias -ne 'x'</SBK>"), proxy("ResultSize", "<I32>1</I32>")]),
    ("a switch", "Set-Mailbox", [proxy("Identity", who), proxy("CustomAttribute1", "<S>shaped</S>"), ('<S N="N">-WhatIf:</S>', switch.format(91, "True", "true"))]),
    ("a switch denied", "Set-Mailbox", [proxy("Identity", who), proxy("CustomAttribute1", "<S>shaped</S>"), ('<S N="N">-WhatIf:</S>', switch.format(91, "False", "false"))]),
    ("a hash table", "Set-Mailbox", [proxy("Identity", who), ('<S N="N">-EmailAddresses:</S>', '<Obj N="V" RefId="92"><TN RefId="93"><T>System.Collections.Hashtable</T><T>System.Object</T></TN><DCT><En><S N="Key">Add</S><Obj N="Value" RefId="94"><LST><S>smtp:shaped@contoso.onmicrosoft.com</S></LST></Obj></En></DCT></Obj>')]),
    ("no such parameter", "Set-Mailbox", [('<S N="N">-NoSuch</S>', '<Nil N="V" />'), bare("<S>x</S>")]),
]:
    command, messages = client.run(pipeline(cmdlet, *arguments))
    lab.emit(step, state=client.states[command], output=count(messages, OUTPUT), errors=count(messages, ERROR), failed=failures(messages))

taking = lambda cmdlet, *arguments: pipeline(cmdlet, *arguments).replace('<B N="NoInput">true</B>', '<B N="NoInput">false</B>')
found = f'<Obj RefId="0"><TN RefId="0"><T>Deserialized.Microsoft.Exchange.Data.Directory.Management.Mailbox</T></TN><Props><S N="Identity">{given.identity}</S></Props><MS><S N="PSComputerName">localhost</S></MS></Obj>'
command, messages = client.run(taking("Set-Mailbox", proxy("CustomAttribute2", "<S>piped</S>")), [found, who, ""])
unbound = [bag(content)["FullyQualifiedErrorId"].text for kind, content in messages if kind == ERROR]
command, after = client.run(pipeline("Get-Mailbox", bare(who)))
value = next(bag(content)["CustomAttribute2"].text for kind, content in after if kind == OUTPUT)
lab.emit("piped in", state=client.states[command], errors=len(unbound), unbound=all("InputObjectNotBound" in e for e in unbound), value=value)


def behind(*commands):
    """Several commands in one pipeline."""
    whole = pipeline(*commands[0])
    more = "".join(re.search(r'<LST>(<Obj RefId="3">.*</Obj>)</LST></Obj><B N="IsNested">', pipeline(*c))[1] for c in commands[1:])
    return re.sub(r'</Obj></LST></Obj><B N="IsNested">', lambda found: found[0].replace("</LST>", more + "</LST>", 1), whole, count=1)


select = ("Select-Object", ('<S N="N">-Property</S>', '<Obj N="V" RefId="95"><LST><S>Alias</S></LST></Obj>'))
command, messages = client.run(behind(("Get-Mailbox", *named("ResultSize", "<I32>3</I32>")), select, ("Measure-Object",)))
lab.emit("several", state=client.states[command], counted=[bag(content)["Count"].text for kind, content in messages if kind == OUTPUT])
command, messages = client.run(behind(("Get-Mailbox", bare(who)), ("Set-Mailbox", proxy("CustomAttribute3", "<S>behind</S>"))))
_, after = client.run(pipeline("Get-Mailbox", bare(who)))
lab.emit("behind", state=client.states[command], value=next(bag(content)["CustomAttribute3"].text for kind, content in after if kind == OUTPUT))
enum = lambda kind, text, value: f'<Obj RefId="97"><TN RefId="97"><T>{kind}</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T></TN><ToString>{text}</ToString><I32>{value}</I32></Obj>'
merged = lambda xml: re.sub(r'(N="MergeError" RefId="\d+"><ToString>)None(</ToString><I32>)0', r"\1Output\g<2>1", re.sub(r'(N="MergeMyResult" RefId="\d+"><ToString>)None(</ToString><I32>)0', r"\1Error\g<2>2", re.sub(r'(N="MergeToResult" RefId="\d+"><ToString>)None(</ToString><I32>)0', r"\1Output\g<2>1", xml)))
alone = lambda xml: xml.replace('<B N="_useRunspaceHost">true</B>', '<B N="_useRunspaceHost">false</B>')
same = ("Set-Mailbox", proxy("Identity", who), proxy("CustomAttribute1", "<S>shaped</S>"))
missing = ("Get-Mailbox", bare("<S>nobody-of-that-name</S>"))
guids = [bag(content)["ExchangeGuid"] for kind, content in after if kind == OUTPUT]
guid_of = f"<G>{guids[0].text}</G>"
# What is shown (section 8): the record, and the host call where somebody is there; preferences as texts and as enumerations.
for index, (step, xml) in enumerate([
    ("warned", pipeline(*same)),
    ("warned, nobody there", alone(pipeline(*same))),
    ("warned, silent", pipeline(*same, proxy("WarningAction", enum("System.Management.Automation.ActionPreference", "SilentlyContinue", 0)))),
    ("missing", pipeline(*missing)),
    ("missing, merged", merged(pipeline(*missing))),
    ("missing, stop", pipeline(*missing, proxy("ErrorAction", "<S>Stop</S>"))),
    ("missing, silent", pipeline(*missing, proxy("ErrorAction", enum("System.Management.Automation.ActionPreference", "SilentlyContinue", 0)))),
    ("an enum", pipeline("Get-Mailbox", proxy("RecipientTypeDetails", enum("Microsoft.Exchange.Data.Directory.Recipient.RecipientTypeDetails", "UserMailbox", 1)), proxy("ResultSize", "<I32>2</I32>"))),
    ("a guid", pipeline("Get-Mailbox", proxy("Identity", guid_of))),
    ("a list", pipeline("Get-Mailbox", proxy("RecipientTypeDetails", '<Obj RefId="98"><TN RefId="98"><T>System.Object[]</T><T>System.Array</T><T>System.Object</T></TN><LST><S>UserMailbox</S><S>SharedMailbox</S></LST></Obj>'), proxy("ResultSize", "<I32>2</I32>"))),
    ("variables", pipeline("Get-Mailbox", bare(who), proxy("OutVariable", "<S>found</S>"), proxy("ErrorVariable", "<S>failed</S>"))),
    ("a time", pipeline("Search-AdminAuditLog", proxy("StartDate", "<DT>2020-01-02T03:04:05.1234567Z</DT>"), proxy("Cmdlets", "<S>Set-Mailbox</S>"), proxy("ResultSize", "<I32>2</I32>"))),
]):
    command, messages = client.run(xml)
    lab.emit(
        step, state=client.states[command], output=count(messages, OUTPUT), errors=count(messages, ERROR), warnings=count(messages, WARNING),
        calls=[(method, id) for method, id, _ in calls(messages)],
        same=[text for _, _, text in calls(messages)] == [bag(content)["InformationalRecord_Message"].text for kind, content in messages if kind == WARNING],
    )
    # Errors that were merged with 2>&1 are whole error records as well.
    if step == "missing, merged":
        check_error(next(content for kind, content in messages if kind == OUTPUT))
command, messages = client.run(pipeline("Get-Command", bare("<S>Set-Mailb*</S>")))
lab.emit("get-command", names=[bag(content)["Name"].text for kind, content in messages if kind == OUTPUT])
more = [proxy("ArgumentList", '<Obj RefId="99"><LST><S>x</S></LST></Obj>'), ('<S N="N">-ListImported:</S>', switch.format(91, "True", "true")), ('<S N="N">-ShowCommandInfo:</S>', switch.format(92, "False", "false"))]
command, messages = client.run(pipeline("Get-Command", proxy("Name", "<S>Set-Mailb*</S>"), *more))
lab.emit("get-command, more", names=[bag(content)["Name"].text for kind, content in messages if kind == OUTPUT], state=client.states[command])

# The key is exchanged when the first SecureString has to travel, on the session's streams, beside what else goes on.
client.exchange()
domain = given.identity.partition("@")[2] or "contoso.onmicrosoft.com"
made = f"key{uuid.uuid4().hex[:8]}"
create = lambda name, password: pipeline("New-Mailbox", proxy("Name", f"<S>{name}</S>"), proxy("MicrosoftOnlineServicesID", f"<S>{name}@{domain}</S>"), proxy("Password", password))
for index, (step, xml) in enumerate([
    ("a SecureString", create(made, client.secure("P@ss w\u00f6rd 1"))),
    ("a SecureString of another key", create(made + "x", "<SS>AAAAAAAAAAAAAAAAAAAAAA==</SS>")),
]):
    command, messages = client.run(xml)
    lab.emit(step, state=client.states[command], output=count(messages, OUTPUT), failed=failures(messages))


def ask(content, authorization=None):
    with connect() as stream:
        whole(stream, TARGET, content, authorization or basic())
        return read_answer(stream)


# Recording 10: no such configuration, 401, the quota, a Receive that finds nothing three times, a shell that is lost.
opening = [(options, body) for action, _, options, body in recorded("10-faults.txt") if action == "Create"][0]


def opened(shell, change=lambda text: text, authorization=None):
    body = re.sub(r"733f31e1-4e3a-4f08-9527-6380565e840c", lambda found: shell if found[0].isupper() else shell.lower(), opening[1], flags=re.I)
    return ask(change(envelope("Create", encode(body), None, opening[0])), authorization)


def wanted(shell):
    return envelope("Receive", client.receive(), shell).replace("PT3M", "PT0.3S")


fresh = lambda: str(uuid.uuid4()).upper()
check_fault(opened(fresh(), lambda text: text.replace("Microsoft.Exchange", "No.Such")), 2150858811, "Sender", "a:DestinationUnreachable")
denied = opened(fresh(), authorization=basic("wrong"))
need(denied.status == 401 and denied.headers.get("www-authenticate", "").lower().startswith("basic realm="), "401:", denied.headers)
shells = []
while len(shells) < 100:
    shell = fresh()
    answer = opened(shell)
    if answer.status != 200:
        break
    shells.append(shell)
quota = check_fault(answer, 2150859173, "Receiver", "w:QuotaLimit")
shell = shells.pop()
need(len(ask(wanted(shell)).text) > 500, "the opening")
silent = [check_fault(ask(wanted(shell)), 2150858793, "Receiver", "w:TimedOut") for _ in range(3)]
beside = Later("Receive", client.receive(), shell)
need(request("Delete", "", shell).status == 200, "Delete")
lost = check_fault(beside.wait("the Receive of a lost shell"), UNKNOWN, "Sender", "w:InvalidSelectors")
for action, body in [("Receive", client.receive()), ("Delete", "")]:
    check_fault(request(action, body, shell), UNKNOWN, "Sender", "w:InvalidSelectors")
for shell in shells:
    need(request("Delete", "", shell).status == 200, "Delete of", shell)
lab.emit(
    "faults", quota="concurrent shells, which has been exceeded" in quota, silent=len(set(silent)), lost="was not found on the server" in lost,
    again=opened(fresh()).status,
)
client.close()
