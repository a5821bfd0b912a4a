"""A PowerShell-shaped client: sends the recorded requests of PowerShell 7.0.13 (folder psrp of the samples) as they were recorded, in their
order, and looks in the answers for every property and rule that such a client reads. It is not PowerShell: what passes here has the
shape that PowerShell was seen to need, no more. Prints one line of JSON a step.
"""

import os
import re
import struct
import threading
import uuid
import xml.etree.ElementTree as tree
from base64 import b64decode, b64encode

import lab
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from unix_transport import SHELL, TARGET, Later, basic, connect, envelope, given, guid, named, pipeline, read_answer, request, whole

FOLDER = os.path.join(os.environ["EXOPS_SAMPLES"], "psrp")
OUTPUT, ERROR, STATE, HOST_CALL = 0x00041004, 0x00041005, 0x00041006, 0x00041100
TYPES = {
    "SESSION_CAPABILITY": 0x00010002, "INIT_RUNSPACEPOOL": 0x00010004, "PUBLIC_KEY": 0x00010005, "CREATE_PIPELINE": 0x00021006,
    "GET_COMMAND_METADATA": 0x0002100A, "PIPELINE_INPUT": 0x00041002, "END_OF_PIPELINE_INPUT": 0x00041003, "PIPELINE_HOST_RESPONSE": 0x00041101,
}
COMMON = ["Verbose", "Debug", "ErrorAction", "WarningAction", "InformationAction", "ErrorVariable", "WarningVariable", "InformationVariable",
          "OutVariable", "OutBuffer", "PipelineVariable"]
NEEDED = ["Exception", "TargetObject", "FullyQualifiedErrorId", "ErrorCategory_Category", "ErrorCategory_Activity", "ErrorCategory_Reason",
          "ErrorCategory_TargetName", "ErrorCategory_TargetType", "ErrorCategory_Message", "SerializeExtendedInfo"]


def need(condition, *what):
    if not condition:
        raise SystemExit(" ".join(str(w) for w in what))


def fragment(text):
    """One decoded message of a recording as the bytes of its fragment."""
    head, _, xml = text.partition("\n")
    number, destination, kind, pool, pid, bom = head.split(" ")
    message = struct.pack("<II", int(destination), TYPES[kind]) + guid(pool) + guid(pid) + (b"\xef\xbb\xbf" if bom == "1" else b"") + xml.encode()
    return struct.pack(">QQBI", int(number), 0, 3, len(message)) + message


def encode(body):
    """Base64 in place of the decoded messages that stand one after the other."""
    part = r"\{\{(.*?)\}\}(?=\s*(?:\{\{|<|$))"
    run = lambda found: b64encode(b"".join(fragment(text) for text in re.findall(part, found[0], re.S))).decode()
    return re.sub(rf"\s*(?:{part}\s*)+", run, body, flags=re.S)


def recorded(name):
    """The requests of a recording: action, shell, options, body."""
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        text = file.read()
    for block in re.split(r"\n(?=>>> |<<< )", text):
        line, _, body = block.partition("\n")
        if line.startswith(">>> ") and not line.startswith(">>> POST"):
            options = line.partition(" options=")[2]
            yield line.split(" ")[1], (re.search(r" shell=(\S+)", line) or [None, None])[1], options, body.strip()


def bag(xml):
    """Properties of an object by name, of MS and Props alike."""
    return {child.get("N"): child for place in ("MS", "Props") for child in xml.findall(f"{place}/*")}


class Client:
    """One session. Its messages come together by object id, in whatever order their fragments arrive."""

    def __init__(self, shell):
        self.shell, self.parts, self.got, self.states, self.lock = shell, {}, {}, {}, threading.Lock()
        with open(os.path.join(FOLDER, "01-open-invoke-close.txt"), encoding="utf-8") as file:
            create = re.search(r"<s:Body>(.*?)</s:Body>", file.read(), re.S)[1]
        own = re.search(r'ShellId="([^"]+)"', create)[1]
        create = create.replace(own.lower(), shell.lower()).replace(own, shell)
        answer = request("Create", encode(create), options='<w:Option Name="protocolversion" Type="x:string">2.3</w:Option>')
        need(answer.status == 200 and f"<rsp:ShellId>{shell}</rsp:ShellId>" in answer.text and "<rsp:ResourceUri>" in answer.text, answer.text)
        opening = []
        while 0x00021005 not in opening:
            opening += [kind for kind, _, _ in self.read(request("Receive", self.receive(), shell))]
        self.pool = Later("Receive", self.receive(), shell)

    def receive(self, command=None):
        which = f' CommandId="{command}"' if command else ""
        return f'<p:Receive xmlns:p="{SHELL}"><p:DesiredStream{which}>stdout</p:DesiredStream></p:Receive>'

    def read(self, answer):
        """The messages of an answer: type, pipeline, content."""
        messages = []
        with self.lock:
            for text in re.findall(r"<rsp:Stream [^>]*>([^<]*)</rsp:Stream>", answer.text):
                data = b64decode(text)
                while data:
                    number, _, flags, length = struct.unpack(">QQBI", data[:21])
                    self.parts[number] = self.parts.get(number, b"") + data[21 : 21 + length]
                    data = data[21 + length :]
                    if flags & 2:
                        whole = self.parts.pop(number)
                        pid = str(uuid.UUID(bytes_le=whole[24:40])).upper()
                        content = whole[40:].decode("utf-8-sig")
                        messages.append((struct.unpack("<I", whole[4:8])[0], pid, tree.fromstring(content) if content else None))
        for kind, pid, content in messages:
            self.got.setdefault(pid, []).append((kind, content))
            if kind == STATE:
                self.states[pid] = int(bag(content)["PipelineState"].text)
        need(not (messages and "CommandState/Done" in answer.text), "Done came with data")
        return messages

    def finish(self, command):
        """Receives until the pipeline's state, then terminates beside one more Receive. The command's messages."""
        while command not in self.states:
            answer = request("Receive", self.receive(command), self.shell)
            need(answer.status == 200 or answer.fault() == 2150858793, "Receive:", answer.status, answer.text[:500])
            self.read(answer)
        beside = Later("Receive", self.receive(command), self.shell)
        code = f"{SHELL}/signal/terminate"
        ended = request("Signal", f'<p:Signal CommandId="{command}" xmlns:p="{SHELL}"><p:Code>{code}</p:Code></p:Signal>', self.shell)
        need(ended.status == 200, "terminate:", ended.text[:500])
        beside = beside.wait("Receive beside terminate")
        need("CommandState/Done" in beside.text or beside.fault() == 2150858843, "beside terminate:", beside.text[:500])
        for kind, content in self.got[command]:
            if kind == ERROR:
                check_error(content)
            elif kind == STATE and self.states[command] == 5:
                check_error(bag(content)["ExceptionAsErrorRecord"])
        return self.got[command]

    def run(self, xml, number, then=()):
        """A command of our own; `then` are the contents of its input."""
        command = str(uuid.uuid4()).upper()

        def packed(kind, content, number):
            message = struct.pack("<II", 2, kind) + guid(self.shell) + guid(command) + (b"\xef\xbb\xbf" + content.encode() if content else b"")
            return struct.pack(">QQBI", number, 0, 3, len(message)) + message

        body = b64encode(packed(TYPES["CREATE_PIPELINE"], xml, number)).decode()
        answer = request("Command", f'<p:CommandLine CommandId="{command}" xmlns:p="{SHELL}"><p:Command>x</p:Command><p:Arguments>{body}</p:Arguments></p:CommandLine>', self.shell)
        need(answer.status == 200, "Command:", answer.text[:500])
        if then:
            data = b"".join(packed(TYPES["PIPELINE_INPUT"], content, number + 1 + index) for index, content in enumerate(then))
            data += packed(TYPES["END_OF_PIPELINE_INPUT"], "", number + 1 + len(then))
            body = f'<p:Send xmlns:p="{SHELL}"><p:Stream Name="stdin" CommandId="{command}">{b64encode(data).decode()}</p:Stream></p:Send>'
            need(request("Send", body, self.shell).status == 200, "Send")
        return command, self.finish(command)

    def close(self):
        need(request("Delete", "", self.shell).status == 200, "Delete")
        need(self.pool.wait("Receive beside Delete").fault() == 2150858843, "the open Receive of the pool")


def check_error(record):
    """What makes a pipeline fail at the client when it is missing (section 8)."""
    properties = bag(record)
    need(not [name for name in NEEDED if name not in properties], "an error record lacks properties:", sorted(properties))
    need(properties["ErrorCategory_Category"].tag == "I32", "the category is no I32")
    need(bag(properties["Exception"]).get("Message") is not None, "the exception has no message")


def check_metadata(objects, asked):
    """Section 5: the count, then commands with what the import reads."""
    need(objects and bag(objects[0])["Count"].tag == "I32", "no Count first")
    need(int(bag(objects[0])["Count"].text) == len(objects) - 1, "the count is wrong")
    names = []
    for command in objects[1:]:
        command = bag(command)
        names.append(command["Name"].text)
        need(command["CommandType"].find("I32").text == "8" and not command["HelpUri"].text, names[-1], "type or help")
        keys = []
        for entry in command["Parameters"].findall("DCT/En"):
            key = entry.find("*[@N='Key']").text
            parameter = bag(entry.find("*[@N='Value']"))
            need(parameter["Name"].text == key and ":" not in key and len(key) <= 100, names[-1], key)
            need(parameter["IsDynamic"].tag == parameter["SwitchParameter"].tag == "B" and "Aliases" in parameter, names[-1], key)
            keys.append(key)
        need(all(name in keys for name in COMMON), names[-1], "lacks a common parameter")
    need(all(name in asked for name in names) or "*" in asked, "not asked for:", names)
    return names


def check_view(definition):
    """What a client rebuilds a table from, with the properties that it looks for at every level."""
    properties = bag(definition)
    need(properties["TypeName"].text.startswith("Deserialized."), "the type name")
    views = properties["FormatViewDefinition"].findall("LST/Obj")
    need(views and properties["TypeNames"].findall("LST/S"), "no view or type names")
    for view in map(bag, views):
        need(view["Name"].text and view["InstanceId"].tag == "G", "the view's name or id")
        need("TableControl" in view["Control"].find("TN/T").text, "the control's type")
        control = bag(view["Control"])
        headers = [bag(h) for h in control["Headers"].findall("LST/Obj")]
        rows = [bag(r) for r in control["Rows"].findall("LST/Obj")]
        need(all({"Label", "Alignment", "Width"} <= set(h) for h in headers), "a header")
        for row in rows:
            cells = [bag(c) for c in row["Columns"].findall("LST/Obj")]
            need(len(cells) == len(headers) and {"SelectedBy", "Wrap"} <= set(row), "a row")
            need(all({"ValueType", "Value"} <= set(bag(c["DisplayEntry"])) for c in cells), "a cell")


def count(messages, kind):
    return sum(1 for found, _ in messages if found == kind)


def calls(messages):
    """Host calls: method, call id, first parameter."""
    found = [bag(content) for kind, content in messages if kind == HOST_CALL]
    return [(int(c["mi"].find("I32").text), int(c["ci"].text), "".join(item.text or "" for item in c["mp"].findall("LST/*"))) for c in found]


def replay(name):
    """Sends a recording's requests; answers its client and, for each command, its text and messages."""
    client, commands, deleted = None, [], False
    for action, shell, options, body in recorded(name):
        client = client or Client(shell)
        text = encode(body)
        if action == "Command":
            need(request(action, text, shell).status == 200, name, "Command")
            commands.append((re.search(r'CommandId="([^"]+)"', body)[1], body))
        elif action == "Send":
            need(request(action, text, shell, options).status == 200, name, "Send")
        elif action == "Delete":
            deleted = True
        if action == "Signal" and "crtl_c" in body:
            need(request(action, text, shell).status == 200, name, "stop")
        # The recording's own Receives depend on the answers: ours are made where the client would make them.
        if action == "Signal" and "signal/terminate" in body:
            command = re.search(r'CommandId="([^"]+)"', body)[1]
            if command not in client.states and command in [c for c, _ in commands]:
                client.finish(command)
    for command, _ in commands:
        if command not in client.states:
            client.finish(command)
    if deleted:
        client.close()
    return client, [(body, client.got[command], client.states[command]) for command, body in commands]


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
errors = [bag(bag(content)["ExceptionAsErrorRecord"])["FullyQualifiedErrorId"].text for _, messages, state in commands for kind, content in messages if kind == STATE and state == 5]
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
client = Client(str(uuid.uuid4()).upper())
switch = '<Obj N="V" RefId="{0}"><TN RefId="{0}"><T>System.Management.Automation.SwitchParameter</T></TN><ToString>{1}</ToString><Props><B N="IsPresent">{2}</B></Props></Obj>'
proxy = lambda name, value: (f'<S N="N">-{name}:</S>', value.replace(">", ' N="V">', 1))
bare = lambda value: ('<Nil N="N" />', value.replace(">", ' N="V">', 1))
who = f"<S>{given.identity}</S>"
number = 10
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
    command, messages = client.run(pipeline(cmdlet, *arguments), number)
    number += 10
    failed = [bag(bag(content)["ExceptionAsErrorRecord"])["FullyQualifiedErrorId"].text for kind, content in messages if kind == STATE and client.states[command] == 5]
    lab.emit(step, state=client.states[command], output=count(messages, OUTPUT), errors=count(messages, ERROR), failed=failed)

taking = lambda cmdlet, *arguments: pipeline(cmdlet, *arguments).replace('<B N="NoInput">true</B>', '<B N="NoInput">false</B>')
found = f'<Obj RefId="0"><TN RefId="0"><T>Deserialized.Microsoft.Exchange.Data.Directory.Management.Mailbox</T></TN><Props><S N="Identity">{given.identity}</S></Props><MS><S N="PSComputerName">localhost</S></MS></Obj>'
command, messages = client.run(taking("Set-Mailbox", proxy("CustomAttribute2", "<S>piped</S>")), number, [found, who, ""])
unbound = [bag(content)["FullyQualifiedErrorId"].text for kind, content in messages if kind == ERROR]
command, after = client.run(pipeline("Get-Mailbox", bare(who)), number + 20)
value = next(bag(content)["CustomAttribute2"].text for kind, content in after if kind == OUTPUT)
lab.emit("piped in", state=client.states[command], errors=len(unbound), unbound=all("InputObjectNotBound" in e for e in unbound), value=value)


def behind(*commands):
    """Several commands in one pipeline."""
    whole = pipeline(*commands[0])
    more = "".join(re.search(r'<LST>(<Obj RefId="3">.*</Obj>)</LST></Obj><B N="IsNested">', pipeline(*c))[1] for c in commands[1:])
    return re.sub(r'</Obj></LST></Obj><B N="IsNested">', lambda found: found[0].replace("</LST>", more + "</LST>", 1), whole, count=1)


select = ("Select-Object", ('<S N="N">-Property</S>', '<Obj N="V" RefId="95"><LST><S>Alias</S></LST></Obj>'))
command, messages = client.run(behind(("Get-Mailbox", *named("ResultSize", "<I32>3</I32>")), select, ("Measure-Object",)), number + 30)
lab.emit("several", state=client.states[command], counted=[bag(content)["Count"].text for kind, content in messages if kind == OUTPUT])
command, messages = client.run(behind(("Get-Mailbox", bare(who)), ("Set-Mailbox", proxy("CustomAttribute3", "<S>behind</S>"))), number + 40)
_, after = client.run(pipeline("Get-Mailbox", bare(who)), number + 50)
lab.emit("behind", state=client.states[command], value=next(bag(content)["CustomAttribute3"].text for kind, content in after if kind == OUTPUT))
enum = lambda kind, text, value: f'<Obj RefId="97"><TN RefId="97"><T>{kind}</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T></TN><ToString>{text}</ToString><I32>{value}</I32></Obj>'
merged = lambda xml: re.sub(r'(N="MergeError" RefId="\d+"><ToString>)None(</ToString><I32>)0', r"\1Output\g<2>1", re.sub(r'(N="MergeMyResult" RefId="\d+"><ToString>)None(</ToString><I32>)0', r"\1Error\g<2>2", re.sub(r'(N="MergeToResult" RefId="\d+"><ToString>)None(</ToString><I32>)0', r"\1Output\g<2>1", xml)))
alone = lambda xml: xml.replace('<B N="_useRunspaceHost">true</B>', '<B N="_useRunspaceHost">false</B>')
WARNING = 0x00041009
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
    command, messages = client.run(xml, number + 100 + 10 * index)
    lab.emit(
        step, state=client.states[command], output=count(messages, OUTPUT), errors=count(messages, ERROR), warnings=count(messages, WARNING),
        calls=[(method, id) for method, id, _ in calls(messages)],
        same=[text for _, _, text in calls(messages)] == [bag(content)["InformationalRecord_Message"].text for kind, content in messages if kind == WARNING],
    )
    # Errors that were merged with 2>&1 are whole error records as well.
    if step == "missing, merged":
        check_error(next(content for kind, content in messages if kind == OUTPUT))
command, messages = client.run(pipeline("Get-Command", bare("<S>Set-Mailb*</S>")), number + 60)
lab.emit("get-command", names=[bag(content)["Name"].text for kind, content in messages if kind == OUTPUT])
more = [proxy("ArgumentList", '<Obj RefId="99"><LST><S>x</S></LST></Obj>'), ('<S N="N">-ListImported:</S>', switch.format(91, "True", "true")), ('<S N="N">-ShowCommandInfo:</S>', switch.format(92, "False", "false"))]
command, messages = client.run(pipeline("Get-Command", proxy("Name", "<S>Set-Mailb*</S>"), *more), number + 70)
lab.emit("get-command, more", names=[bag(content)["Name"].text for kind, content in messages if kind == OUTPUT], state=client.states[command])

# Recording 08: the key is exchanged when the first SecureString has to travel, on the pool's streams, beside what else goes on.
key = rsa.generate_private_key(65537, 2048)
public = bytes.fromhex("0602000000A40000") + b"RSA1" + struct.pack("<II", 2048, 65537) + key.public_key().public_numbers().n.to_bytes(256, "little")
recorded_key = next(text for action, _, _, text in recorded("08-host-calls-and-key.txt") if "PUBLIC_KEY" in text)
own = re.sub(r'(<S N="PublicKey">)[^<]*', lambda found: found[1] + b64encode(public).decode(), recorded_key)
own = re.sub(r"\{\{\d+ (\d) PUBLIC_KEY \S+", rf"{{{{{number + 300} \1 PUBLIC_KEY {client.shell.lower()}", own)
need(request("Send", encode(own), client.shell).status == 200, "the public key")
[(kind, _, content)] = client.read(client.pool.wait("the session key"))
client.pool = Later("Receive", client.receive(), client.shell)
need(kind == 0x00010006, "no session key came", kind)
sealed = b64decode(bag(content)["EncryptedSessionKey"].text)
need(sealed[:12] == bytes.fromhex("010200001066000000A40000") and len(sealed) == 268, "the form of the session key", sealed[:12].hex())
session_key = key.decrypt(sealed[12:][::-1], padding.PKCS1v15())
need(len(session_key) == 32, "the length of the session key")


def secure(text):
    """A SecureString as it travels."""
    data = text.encode("utf-16-le")
    data += bytes([16 - len(data) % 16]) * (16 - len(data) % 16)
    cipher = Cipher(algorithms.AES(session_key), modes.CBC(bytes(16))).encryptor()
    return f"<SS>{b64encode(cipher.update(data) + cipher.finalize()).decode()}</SS>"


domain = given.identity.partition("@")[2] or "contoso.onmicrosoft.com"
made = f"key{uuid.uuid4().hex[:8]}"
create = lambda name, password: pipeline("New-Mailbox", proxy("Name", f"<S>{name}</S>"), proxy("MicrosoftOnlineServicesID", f"<S>{name}@{domain}</S>"), proxy("Password", password))
for index, (step, xml) in enumerate([
    ("a SecureString", create(made, secure("P@ss w\u00f6rd 1"))),
    ("a SecureString of another key", create(made + "x", "<SS>AAAAAAAAAAAAAAAAAAAAAA==</SS>")),
]):
    command, messages = client.run(xml, number + 310 + 10 * index)
    failed = [bag(bag(content)["ExceptionAsErrorRecord"])["FullyQualifiedErrorId"].text for kind, content in messages if kind == STATE and client.states[command] == 5]
    lab.emit(step, state=client.states[command], output=count(messages, OUTPUT), failed=[name.rpartition("] ")[2] for name in failed])


def check_fault(answer, code, party, subcode):
    """What such a client reads of a fault: the action, the code's names, the text of the reason and of the message, which stands first."""
    need(answer.fault() == code, "fault", answer.status, answer.text[:800])
    parts = tree.fromstring(answer.text)
    soap = "{http://www.w3.org/2003/05/soap-envelope}"
    values = [value.text for value in parts.iter(f"{soap}Value")]
    detail = next(parts.iter("{http://schemas.microsoft.com/wbem/wsman/1/wsmanfault}WSManFault"))
    reason = next(parts.iter(f"{soap}Text")).text
    need(values == [f"s:{party}", subcode] and detail[0].tag.endswith("}Message") and detail[0].text.strip() == reason.strip(), values, reason)
    return reason


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
lost = check_fault(beside.wait("the Receive of a lost shell"), 2150858843, "Sender", "w:InvalidSelectors")
for action, body in [("Receive", client.receive()), ("Delete", "")]:
    check_fault(request(action, body, shell), 2150858843, "Sender", "w:InvalidSelectors")
for shell in shells:
    need(request("Delete", "", shell).status == 200, "Delete of", shell)
lab.emit(
    "faults", quota="concurrent shells, which has been exceeded" in quota, silent=len(set(silent)), lost="was not found on the server" in lost,
    again=opened(fresh()).status,
)
client.close()
