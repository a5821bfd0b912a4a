"""What a PowerShell-shaped client is made of: the recorded requests of PowerShell 7.0.13 (folder psrp of the samples) as they were
recorded, the order in which such a client sends them, and every property and rule that it was seen to need of the answers. It is not
PowerShell: what passes here has the shape that PowerShell was seen to need, no more.
"""

import os
import re
import struct
import threading
import uuid
import xml.etree.ElementTree as tree
from base64 import b64decode, b64encode

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from unix_transport import SHELL, Later, guid, request

FOLDER = os.path.join(os.environ["EXOPS_SAMPLES"], "psrp")
CAPABILITY, KEY, KEY_REQUEST, POOL_STATE, PRIVATE = 0x00010002, 0x00010006, 0x00010007, 0x00021005, 0x00021009
OUTPUT, ERROR, STATE, HOST_CALL = 0x00041004, 0x00041005, 0x00041006, 0x00041100
DEBUG, VERBOSE, WARNING, PROGRESS, INFORMATION = 0x00041007, 0x00041008, 0x00041009, 0x00041010, 0x00041011
UNKNOWN, TIMED_OUT = 2150858843, 2150858793
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
    """The requests of a recording: action, shell, options, body. Recording 01 has whole HTTP requests, the others what is in the body."""
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        text = file.read()
    inside = lambda pattern, block: (re.search(pattern, block, re.S) or [None, ""])[1]
    for block in re.split(r"\n(?=>>> |<<< |!!! )", text):
        line, _, body = block.partition("\n")
        if line.startswith(">>> POST"):
            action = inside(r"<a:Action>[^<]*/(\w+)</a:Action>", body)
            yield action, inside(r'Name="ShellId">([^<]*)<', body), inside(r"<w:OptionSet[^>]*>(.*?)</w:OptionSet>", body), inside(r"<s:Body>(.*?)</s:Body>", body)
        elif line.startswith(">>> "):
            yield line.split(" ")[1], inside(r" shell=(\S+)", line), line.partition(" options=")[2], body.strip()


CREATION = next(body for action, _, _, body in recorded("01-open-invoke-close.txt") if action == "Create")
PUBLIC_KEY = next(body for _, _, _, body in recorded("08-host-calls-and-key.txt") if "PUBLIC_KEY" in body)


def bag(xml):
    """Properties of an object by name, of MS and Props alike."""
    return {child.get("N"): child for place in ("MS", "Props") for child in xml.findall(f"{place}/*")}


class Background(threading.Thread):
    """Work beside other work; what goes wrong in it comes out where it is waited for."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.wrong = work, arguments, None
        self.start()

    def run(self):
        try:
            self.work(*self.arguments)
        except BaseException as wrong:
            self.wrong = wrong

    def end(self, what):
        self.join(60)
        need(not self.is_alive(), what, "has no end")
        if self.wrong:
            raise self.wrong


class Client:
    """One session. Its messages come together by object id, in whatever order their fragments arrive. One Receive of the session is always
    open, and one of each command until its state came, each on a connection of its own."""

    def __init__(self, shell=None, create=CREATION):
        self.shell = shell or str(uuid.uuid4()).upper()
        self.parts, self.got, self.states, self.lock, self.following = {}, {}, {}, threading.Lock(), {}
        self.terminated, self.session_key, self.has_key = 0, None, threading.Event()
        self.private, self.key_requests, self.key_sent, self.number = None, 0, False, 1_000
        own = re.search(r'ShellId="([^"]+)"', create)[1]
        create = create.replace(own.lower(), self.shell.lower()).replace(own, self.shell)
        answer = request("Create", encode(create), options='<w:Option Name="protocolversion" Type="x:string">2.3</w:Option>')
        need(answer.status == 200 and f"<rsp:ShellId>{self.shell}</rsp:ShellId>" in answer.text and "<rsp:ResourceUri>" in answer.text, answer.text)
        opening = []
        while POOL_STATE not in [kind for kind, _, _ in opening]:
            opening += self.read(request("Receive", self.receive(), self.shell))
        self.private = check_opening(opening)
        self.pool = Background(self.listen)

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

    def listen(self):
        """The Receive of the session, again and again until the shell is gone: that is its fault, at once, and the same once more."""
        while True:
            answer = request("Receive", self.receive(), self.shell)
            if answer.status != 200:
                code = answer.fault()
                check_fault(answer, code, *(("Receiver", "w:TimedOut") if code == TIMED_OUT else ("Sender", "w:InvalidSelectors")))
                if code == UNKNOWN:
                    return
            for kind, _, content in self.read(answer):
                if kind == KEY_REQUEST:
                    self.key_requests += 1
                    self.send_key()
                elif kind == KEY:
                    self.take_key(content)

    def follow(self, command):
        """Receives what a command writes until its state came; its host calls are answered as they come."""
        while command not in self.states:
            answer = request("Receive", self.receive(command), self.shell)
            need(answer.status == 200 or answer.fault() == TIMED_OUT, "Receive:", answer.status, answer.text[:500])
            if answer.status != 200:
                check_fault(answer, TIMED_OUT, "Receiver", "w:TimedOut")
            for kind, _, content in self.read(answer):
                if kind == HOST_CALL:
                    check_call(content)

    def begin(self, command, body):
        """Sends Command; a Receive of it is open from now on."""
        answer = request("Command", encode(body), self.shell)
        need(answer.status == 200, "Command:", answer.text[:500])
        self.following[command] = Background(self.follow, command)

    def waiting_call(self, command, answered):
        """The next host call of a command that wants an answer."""
        while True:
            wanted = [(int(c["ci"].text), c) for kind, content in list(self.got.get(command, [])) if kind == HOST_CALL for c in [bag(content)] if c["ci"].text != "-100"]
            if len(wanted) > answered:
                return wanted[answered]
            need(self.following[command].is_alive() or command in self.states, "the command's Receive ended")
            if command in self.states:
                return None
            threading.Event().wait(0.02)

    def finish(self, command):
        """Waits for the pipeline's state, then asks once more, and terminates: before, after, or beside that Receive. The messages."""
        self.following.pop(command).end(f"the Receive of {command}")
        once = request("Receive", self.receive(command), self.shell)
        need("CommandState/Done" in once.text and "<rsp:ExitCode>" in once.text and not self.read(once), "Done alone:", once.text[:500])
        code = f"{SHELL}/signal/terminate"
        signal = f'<p:Signal CommandId="{command}" xmlns:p="{SHELL}"><p:Code>{code}</p:Code></p:Signal>'
        self.terminated += 1
        if self.terminated % 2:
            beside = Later("Receive", self.receive(command), self.shell)
            ended = request("Signal", signal, self.shell)
        else:
            ended = Later("Signal", signal, self.shell)
            beside = Later("Receive", self.receive(command), self.shell)
            ended = ended.wait("terminate")
        need(ended.status == 200, "terminate:", ended.text[:500])
        beside = beside.wait("Receive beside terminate")
        if "CommandState/Done" not in beside.text:
            check_fault(beside, UNKNOWN, "Sender", "w:InvalidSelectors")
        check_fault(request("Receive", self.receive(command), self.shell), UNKNOWN, "Sender", "w:InvalidSelectors")
        check_messages(self.got[command], self.states[command])
        return self.got[command]

    def stop(self, command):
        body = f'<p:Signal CommandId="{command}" xmlns:p="{SHELL}"><p:Code>powershell/signal/crtl_c</p:Code></p:Signal>'
        need(request("Signal", body, self.shell).status == 200, "stop")

    def packed(self, command, kind, content):
        self.number += 1
        message = struct.pack("<II", 2, kind) + guid(self.shell) + guid(command) + (b"\xef\xbb\xbf" + content.encode() if content else b"")
        return struct.pack(">QQBI", self.number, 0, 3, len(message)) + message

    def run(self, xml, then=()):
        """A command of our own; `then` are the contents of its input, one Send each, the end with the last."""
        command = str(uuid.uuid4()).upper()
        body = b64encode(self.packed(command, TYPES["CREATE_PIPELINE"], xml)).decode()
        self.begin(command, f'<p:CommandLine CommandId="{command}" xmlns:p="{SHELL}"><p:Command>x</p:Command><p:Arguments>{body}</p:Arguments></p:CommandLine>')
        for index, content in enumerate(then):
            data = self.packed(command, TYPES["PIPELINE_INPUT"], content)
            if index + 1 == len(then):
                data += self.packed(command, TYPES["END_OF_PIPELINE_INPUT"], "")
            body = f'<p:Send xmlns:p="{SHELL}"><p:Stream Name="stdin" CommandId="{command}">{b64encode(data).decode()}</p:Stream></p:Send>'
            need(request("Send", body, self.shell).status == 200, "Send")
        return command, self.finish(command)

    def send_key(self):
        """PUBLIC_KEY as it was recorded, with a key of our own; once, whoever needs it first."""
        with self.lock:
            if self.key_sent:
                return
            self.key_sent = True
        self.key = rsa.generate_private_key(65537, 2048)
        public = bytes.fromhex("0602000000A40000") + b"RSA1" + struct.pack("<II", 2048, 65537) + self.key.public_key().public_numbers().n.to_bytes(256, "little")
        own = re.sub(r'(<S N="PublicKey">)[^<]*', lambda found: found[1] + b64encode(public).decode(), PUBLIC_KEY)
        own = re.sub(r"\{\{\d+ (\d) PUBLIC_KEY \S+", rf"{{{{900 \1 PUBLIC_KEY {self.shell.lower()}", own)
        need(request("Send", encode(own), self.shell).status == 200, "the public key")

    def take_key(self, content):
        sealed = b64decode(bag(content)["EncryptedSessionKey"].text)
        need(sealed[:12] == bytes.fromhex("010200001066000000A40000") and len(sealed) == 268, "the form of the session key", sealed[:12].hex())
        self.session_key = self.key.decrypt(sealed[12:][::-1], padding.PKCS1v15())
        need(len(self.session_key) == 32, "the length of the session key")
        self.has_key.set()

    def exchange(self):
        """The key, asked for by the client, as it does before the first SecureString that it sends."""
        self.send_key()
        need(self.has_key.wait(20), "no session key came")

    def cipher(self):
        return Cipher(algorithms.AES(self.session_key), modes.CBC(bytes(16)))

    def secure(self, text, name=""):
        """A SecureString as it travels."""
        data = text.encode("utf-16-le")
        data += bytes([16 - len(data) % 16]) * (16 - len(data) % 16)
        cipher = self.cipher().encryptor()
        return f"<SS{name}>{b64encode(cipher.update(data) + cipher.finalize()).decode()}</SS>"

    def clear(self, element):
        """What a SecureString of an answer hides."""
        need(element.tag == "SS", "no SecureString:", element.tag)
        cipher = self.cipher().decryptor()
        data = cipher.update(b64decode(element.text)) + cipher.finalize()
        return data[: -data[-1]].decode("utf-16-le")

    def close(self):
        need(request("Delete", "", self.shell, '<w:Option Name="protocolversion" Type="x:string">2.3</w:Option>').status == 200, "Delete")
        self.pool.end("the open Receive of the session")
        check_fault(request("Receive", self.receive(), self.shell), UNKNOWN, "Sender", "w:InvalidSelectors")


def check_opening(messages):
    """Capability, private data, state, in this order and with what is read of them (sections 3 and 4)."""
    kinds = [kind for kind, _, _ in messages]
    need(kinds == [CAPABILITY, PRIVATE, POOL_STATE], "the opening:", [f"{kind:08x}" for kind in kinds])
    capability, private, state = (bag(content) for _, _, content in messages)
    need([(name, capability[name].tag, capability[name].text) for name in ("protocolversion", "PSVersion", "SerializationVersion")]
         == [("protocolversion", "Version", "2.3"), ("PSVersion", "Version", "2.0"), ("SerializationVersion", "Version", "1.1.0.1")], "the capability")
    need(state["RunspaceState"].tag == "I32" and state["RunspaceState"].text == "2" and "ExceptionAsErrorRecord" not in state, "the state of the pool")
    entries = dictionary(private["ApplicationPrivateData"])
    # With the first of them a client calls functions that are not here, and its calls fail.
    wrong = {"DebugMode", "DebugStop", "DebugBreakpointCount", "BreakAll", "UnhandledBreakpointMode"} & set(entries)
    need(not wrong, "private data that no client bears:", wrong)
    version = dictionary(entries["PSVersionTable"])["PSVersion"]
    need(version.tag == "Version" and re.fullmatch(r"\d+(\.\d+){1,3}", version.text), "PSVersion")
    return entries


def dictionary(element):
    return {entry.find("*[@N='Key']").text: entry.find("*[@N='Value']") for entry in element.findall("DCT/En")}


def check_error(record):
    """What makes a pipeline fail at the client when it is missing (section 8)."""
    properties = bag(record)
    need(not [name for name in NEEDED if name not in properties], "an error record lacks properties:", sorted(properties))
    need(properties["ErrorCategory_Category"].tag == "I32", "the category is no I32")
    need(bag(properties["Exception"]).get("Message") is not None, "the exception has no message")
    need(properties["Exception"].find("TN/T") is not None, "the exception has no type")
    return properties


def check_messages(messages, state):
    """Errors have all that is needed; warnings, verbose and debug lines, and progress, come twice: as a record, then as a call of the host,
    which shows it (section 8). One terminal state, and nothing after it."""
    need([kind for kind, _ in messages].count(STATE) == 1 and messages[-1][0] == STATE, "the state is not the end")
    has_host = any(kind == HOST_CALL for kind, _ in messages)
    shown = {WARNING: 22, VERBOSE: 21, DEBUG: 19, PROGRESS: 20}
    for index, (kind, content) in enumerate(messages):
        if kind == ERROR:
            check_error(content)
        elif kind == STATE and state in (3, 5):
            check_error(bag(content)["ExceptionAsErrorRecord"])
        elif kind == STATE:
            need("ExceptionAsErrorRecord" not in bag(content), "a record with a state that is no failure")
        elif kind in shown:
            record = bag(content)
            if kind == PROGRESS:
                need({"Activity", "ActivityId", "StatusDescription", "CurrentOperation", "ParentActivityId", "PercentComplete", "Type", "SecondsRemaining"} <= set(record), "progress")
            else:
                need(record["InformationalRecord_Message"].tag == "S" and record["InformationalRecord_SerializeInvocationInfo"].text == "false", "a line")
            if has_host:
                call = bag(messages[index + 1][1])
                parameters = call["mp"].findall("LST/*")
                need((call["mi"].find("I32").text, call["ci"].text) == (str(shown[kind]), "-100"), "not shown:", f"{kind:08x}")
                if kind == PROGRESS:
                    need(parameters[0].tag == "I64" and bag(parameters[1])["Activity"].text == record["Activity"].text, "progress on the host")
                else:
                    need([item.text for item in parameters] == [record["InformationalRecord_Message"].text], "another text on the host")
        elif kind == INFORMATION:
            need({"MessageData", "Source", "TimeGenerated", "Tags", "User", "Computer", "ProcessId", "NativeThreadId", "ManagedThreadId"} <= set(bag(content)), "information")


def check_call(content):
    """What is read of a host call: id, method as enumeration, a list of parameters; and of the two questions that have parts."""
    call = bag(content)
    need(call["ci"].tag == "I64" and call["mi"].find("I32") is not None and call["mp"].find("LST") is not None, "a host call")
    method, parameters = int(call["mi"].find("I32").text), call["mp"].findall("LST/*")
    if method == 23:
        need([item.tag for item in parameters[:2]] == ["S", "S"] and parameters[2].findall("LST/Obj"), "Prompt")
        for field in map(bag, parameters[2].findall("LST/Obj")):
            tags = {name: element.tag for name, element in field.items()}
            texts = ["name", "label", "parameterTypeName", "parameterTypeFullName", "parameterAssemblyFullName", "helpMessage"]
            need(tags == dict.fromkeys(texts, "S") | {"isMandatory": "B", "metadata": "Obj", "modifiedByRemotingProtocol": "B", "isFromRemoteHost": "B"}, "a field:", tags)
            need(field["parameterAssemblyFullName"].text.startswith(field["parameterTypeFullName"].text + ", "), "the field's type")
    elif method == 24:
        need([item.tag for item in parameters] == ["S"] * 4, "PromptForCredential")
    elif method == 26:
        need([item.tag for item in parameters] == ["S", "S", "Obj", "I32"], "PromptForChoice")
        for choice in parameters[2].findall("LST/Obj"):
            need({child.get("N"): child.tag for child in choice.findall("MS/*")} == {"label": "S", "helpMessage": "S"}, "a choice")
    elif method in (11, 12):
        need(not parameters, "a line with parameters")


def check_metadata(objects, asked):
    """Section 5: the count, then commands with what the import reads."""
    need(objects and bag(objects[0])["Count"].tag == "I32", "no Count first")
    need(int(bag(objects[0])["Count"].text) == len(objects) - 1, "the count is wrong")
    names = []
    for command in objects[1:]:
        command = bag(command)
        names.append(command["Name"].text)
        # The client leaves out what has another name, without a word.
        need(re.fullmatch(r"[\w\-.:\\{}]{1,100}", names[-1]), "the name:", names[-1])
        need(command["CommandType"].find("I32").text == "8" and not command["HelpUri"].text, names[-1], "type or help")
        keys = []
        for entry in command["Parameters"].findall("DCT/En"):
            key = entry.find("*[@N='Key']").text
            parameter = bag(entry.find("*[@N='Value']"))
            need(parameter["Name"].text == key and ":" not in key and len(key) <= 100, names[-1], key)
            need(parameter["IsDynamic"].tag == parameter["SwitchParameter"].tag == "B" and "Aliases" in parameter, names[-1], key)
            keys.append(key)
        need(all(name in keys for name in COMMON), names[-1], "lacks a common parameter")
        need(len(set(map(str.lower, keys))) == len(keys), names[-1], "has a parameter twice")
        switches = [entry.find("*[@N='Key']").text for entry in command["Parameters"].findall("DCT/En") if bag(entry.find("*[@N='Value']"))["SwitchParameter"].text == "true"]
        changes = names[-1].split("-")[0] in ("Set", "New", "Remove")
        need({"Verbose", "Debug", *(["WhatIf", "Confirm"] if changes else [])} <= set(switches) and "ErrorAction" not in switches, names[-1], switches)
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


SUBCODES = {"a:DestinationUnreachable", "a:ActionNotSupported", "w:InvalidSelectors", "w:TimedOut", "w:QuotaLimit", "w:AccessDenied", "w:InvalidOptions",
            "w:SchemaValidationError", "w:EncodingLimit", "w:InternalError", "w:InvalidParameter", "w:UnsupportedFeature"}


def check_fault(answer, code, party, subcode):
    """What such a client reads of a fault: the action, the code's names, the text of the reason and of the message, which stands first."""
    need(answer.fault() == code, "fault", answer.status, answer.text[:800])
    parts = tree.fromstring(answer.text)
    soap = "{http://www.w3.org/2003/05/soap-envelope}"
    values = [value.text for value in parts.iter(f"{soap}Value")]
    detail = next(parts.iter("{http://schemas.microsoft.com/wbem/wsman/1/wsmanfault}WSManFault"))
    reason = next(parts.iter(f"{soap}Text")).text
    # What it does not know by name is shown as an unknown error.
    need(subcode in SUBCODES and values == [f"s:{party}", subcode] and detail[0].tag.endswith("}Message") and detail[0].text.strip() == reason.strip(), values, reason)
    return reason


def failures(messages):
    """Ids of what ended a pipeline, without the server's mark."""
    return [bag(bag(content)["ExceptionAsErrorRecord"])["FullyQualifiedErrorId"].text.rpartition("] ")[2] for kind, content in messages if kind == STATE and int(bag(content)["PipelineState"].text) == 5]


def replay(name, client=None, between=lambda client, commands: None):
    """Sends a recording's requests in their order; answers its client and, for each command, its text and messages. The recording's own
    Receives depend on the answers: ours are open whenever the client's are. An answer to a host call waits for the call and carries its
    id; a SecureString in it is sealed with this session's key. A PUBLIC_KEY goes out when it is asked for, or before it is needed."""
    commands, deleted, answered = [], False, {}
    for action, shell, options, body in recorded(name):
        if action == "Create":
            continue
        client = client or Client(shell)
        command = (re.search(r'CommandId="([^"]+)"', body) or [None, None])[1]
        if action == "Command":
            client.begin(command, body)
            commands.append((command, body))
        elif action == "Send" and "PUBLIC_KEY" in body:
            client.exchange()
        elif action == "Send" and "PIPELINE_HOST_RESPONSE" in body:
            call = client.waiting_call(command, answered.get(command, 0))
            if call is None:
                continue
            answered[command] = answered.get(command, 0) + 1
            body = re.sub(r'(<I64 N="ci">)-?\d+', rf"\g<1>{call[0]}", body)
            body = re.sub(r"<SS( N=\"\w+\")>[^<]*</SS>", lambda found: client.secure(SECRETS[found[1]], found[1]), body)
            need(request(action, encode(body), client.shell).status == 200, name, "the answer to a host call")
        elif action == "Send":
            need(request(action, encode(body), client.shell, options).status == 200, name, "Send")
        elif action == "Signal" and "crtl_c" in body:
            client.stop(command)
        elif action == "Signal":
            client.finish(command)
            between(client, commands)
        elif action == "Delete":
            deleted = True
    if deleted:
        client.close()
    return client, [(body, client.got[command], client.states[command]) for command, body in commands]


# What the recorded SecureStrings hid: of the typed line, and of the credential.
SECRETS = {' N="mr"': "secret", ' N="Password"': "pw"}
