"""A remote PowerShell client in the habits of PowerShell 7 on Linux, from sockets up; only the token comes through msal.

A TCP and TLS connection for every request, several handshakes begun and finished in any order, Basic unasked, ';PSVersion=' behind the
query, prefixes that change their namespace within an envelope, a time-out of three minutes. Whatever such a client needs is looked at:
the length of every answer, action and message of every fault, no answer that waits when it should not. Prints one line of JSON a step.
"""

import base64
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse
import uuid

import lab

given = lab.arguments(identity="a mailbox that may be changed")
bearer = lab.token(given)
url = urllib.parse.urlsplit(given.lab["powershell"])
tls = ssl.create_default_context(cafile=given.lab["ca_file"])
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
FAULT = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
TARGET = f"{url.path}?BasicAuthToOAuthConversion=true;PSVersion=7.0.13"
counter = 0


class Answer:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0] else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.text = self.body.decode()
        whole = "transfer-encoding" not in self.headers and self.headers.get("content-length") == str(len(self.body))
        if not whole:
            raise SystemExit(f"an answer without its exact length: {head!r}, {len(self.body)} bytes came")

    def fault(self):
        """The number of a fault, where it has the shape that such a client can read."""
        if self.status != 500 or f"<a:Action>{FAULT}</a:Action>" not in self.text:
            return None
        code = re.search(r'<f:WSManFault[^>]*Code="(\d+)"[^>]*><f:Message>([^<]+)', self.text)
        return code and int(code[1])


def dial():
    return socket.create_connection((url.hostname, url.port), timeout=60)


def request(action, body, shell=None, options="", target=TARGET, token=None, plain=None):
    """One request over a connection of its own; `plain` is one that was dialled before."""
    global counter
    counter += 1
    selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>' if shell else ""
    name = f"{TRANSFER}/{action}" if action in ("Create", "Delete") else f"{SHELL}/{action}"
    envelope = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:xsi="http://www.w3.org/2001/XMLSchema" '
        'xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd" ><s:Header>'
        f"<a:To>HTTPS://{url.netloc}{target}</a:To>"
        '<w:ResourceURI s:mustUnderstand="true">http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI>'
        '<a:ReplyTo><a:Address s:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>'
        f'<a:Action>{name}</a:Action><w:MaxEnvelopeSize s:mustUnderstand="true">512000</w:MaxEnvelopeSize>'
        f"<a:MessageID>uuid:571679C2-60FD-0006-0000-{counter:08X}0000</a:MessageID><w:OperationTimeout>PT3M</w:OperationTimeout>"
        '<w:Locale xml:lang="en-us" s:mustUnderstand="false"/><p:DataLocale xml:lang="en-us" s:mustUnderstand="false"/>'
        f'<w:OptionSet s:mustUnderstand="true">{options}</w:OptionSet>{selector}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
    ).replace("&", "&amp;").encode()
    credential = base64.b64encode(f"OAuthUser@{given.lab['tenant_id']}:Bearer {token or bearer}".encode()).decode()
    head = (
        f"POST {target} HTTP/1.1\r\nConnection: Keep-Alive\r\nContent-Length: {len(envelope)}\r\n"
        f"Content-Type: application/soap+xml;charset=UTF-8\r\nHost: {url.netloc}\r\nAuthorization: Basic {credential}\r\n\r\n"
    ).encode()
    with tls.wrap_socket(plain or dial(), server_hostname=url.hostname) as stream:
        stream.sendall(head + envelope)
        raw, wanted = b"", None
        while wanted is None or len(raw) < wanted:
            piece = stream.recv(65536)
            if not piece:
                break
            raw += piece
            at = raw.find(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", raw[:at]) if at >= 0 else None
            wanted = at + 4 + int(length[1]) if length else None
        return Answer(raw)


def guid(value):
    return uuid.UUID(value).bytes_le if value else bytes(16)


def fragment(number, kind, pool, pipeline, xml):
    message = struct.pack("<II", 2, kind) + guid(pool) + guid(pipeline) + b"\xef\xbb\xbf" + xml.encode()
    return struct.pack(">QQBI", number, 0, 3, len(message)) + message


class Later(threading.Thread):
    """A request that stays open beside others."""

    def __init__(self, *arguments, **named):
        super().__init__(daemon=True)
        self.work, self.answer = (arguments, named), None
        self.start()

    def run(self):
        self.answer = request(*self.work[0], **self.work[1])

    def wait(self, what):
        self.join(20)
        if self.answer is None:
            raise SystemExit(f"{what}: no answer")
        return self.answer


CAPABILITY = '<Obj RefId="0"><MS><Version N="protocolversion">2.3</Version><Version N="PSVersion">2.0</Version><Version N="SerializationVersion">1.1.0.1</Version></MS></Obj>'
INIT = (
    '<Obj RefId="0"><MS><I32 N="MinRunspaces">1</I32><I32 N="MaxRunspaces">1</I32><Obj N="PSThreadOptions" RefId="1"><ToString>Default</ToString><I32>0</I32></Obj>'
    '<Obj N="ApartmentState" RefId="2"><ToString>Unknown</ToString><I32>2</I32></Obj><Nil N="ApplicationArguments" />'
    '<Obj N="HostInfo" RefId="3"><MS><B N="_isHostUINull">true</B><B N="_isHostRawUINull">true</B><B N="_isHostNull">true</B><B N="_useRunspaceHost">false</B></MS></Obj></MS></Obj>'
)
NONE = "".join(
    f'<Obj N="{name}" RefId="{10 + index}"><ToString>None</ToString><I32>0</I32></Obj>'
    for index, name in enumerate(["MergeMyResult", "MergeToResult", "MergePreviousResults", "MergeError", "MergeWarning", "MergeVerbose", "MergeDebug", "MergeInformation"])
)


def pipeline(cmdlet, *arguments):
    """Names with a dash and no value, values without name: how Invoke-Command sends them."""
    parts = "".join(f'<Obj RefId="{40 + i}"><MS>{n}{v}</MS></Obj>' for i, (n, v) in enumerate(arguments))
    return (
        '<Obj RefId="0"><MS><Obj N="PowerShell" RefId="1"><MS><Obj N="Cmds" RefId="2"><LST><Obj RefId="3"><MS>'
        f'<S N="Cmd">{cmdlet}</S><B N="IsScript">false</B><Nil N="UseLocalScope" />{NONE}<Obj N="Args" RefId="30"><LST>{parts}</LST></Obj></MS></Obj></LST></Obj>'
        '<B N="IsNested">false</B><Nil N="History" /><B N="RedirectShellErrorOutputPipe">true</B></MS></Obj><B N="NoInput">true</B>'
        '<Obj N="ApartmentState" RefId="31"><ToString>Unknown</ToString><I32>2</I32></Obj><Obj N="RemoteStreamOptions" RefId="32"><ToString>0</ToString><I32>0</I32></Obj>'
        '<B N="AddToHistory">false</B><Obj N="HostInfo" RefId="33"><MS><B N="_isHostUINull">true</B><B N="_isHostRawUINull">true</B><B N="_isHostNull">true</B><B N="_useRunspaceHost">true</B></MS></Obj>'
        '<B N="IsNested">false</B></MS></Obj>'
    )


def named(name, value):
    return [(f'<S N="N">-{name}</S>', '<Nil N="V" />'), ('<Nil N="N" />', value.replace(">", ' N="V">', 1))]


class Session:
    def __init__(self):
        self.id, self.objects, self.states = str(uuid.uuid4()).upper(), 2, {}
        first = fragment(1, 0x00010002, self.id, None, CAPABILITY) + fragment(2, 0x00010004, self.id, None, INIT)
        self.created = request(
            "Create",
            f'<p:Shell Name="Runspace1" ShellId="{self.id}" xmlns:p="{SHELL}"><p:InputStreams>stdin pr</p:InputStreams><p:OutputStreams>stdout</p:OutputStreams>'
            f'<creationXml xmlns="http://schemas.microsoft.com/powershell">{base64.b64encode(first).decode()}</creationXml></p:Shell>',
            options='<w:Option Name="protocolversion" Type="x:string">2.3</w:Option>',
        )

    def receive(self, command=None, **named):
        what = f' CommandId="{command}"' if command else ""
        return self.send("Receive", f'<p:Receive xmlns:p="{SHELL}"><p:DesiredStream{what}>stdout</p:DesiredStream></p:Receive>', **named)

    def send(self, action, body, later=False, **named):
        return (Later if later else request)(action, body, self.id, **named)

    def command(self, xml):
        self.objects += 1
        command = str(uuid.uuid4()).upper()
        data = base64.b64encode(fragment(self.objects, 0x00021006, self.id, command, xml)).decode()
        answer = self.send(
            "Command",
            f'<p:CommandLine CommandId="{command}" xmlns:p="{SHELL}"><p:Command>x</p:Command><p:Arguments>{data}</p:Arguments></p:CommandLine>',
        )
        return command, answer

    def signal(self, command, code, **named):
        return self.send("Signal", f'<p:Signal xmlns:p="{SHELL}" CommandId="{command}"><p:Code>{code}</p:Code></p:Signal>', **named)

    def messages(self, answer):
        """Types of the messages of an answer; the state of a pipeline is kept. Every object here is one fragment or a part of one."""
        kinds = []
        for _, text in re.findall(r'<rsp:Stream Name="(\w+)"[^>]*>([^<]*)</rsp:Stream>', answer.text):
            data = base64.b64decode(text)
            while data:
                _, _, flags, length = struct.unpack(">QQBI", data[:21])
                content, data = data[21 : 21 + length], data[21 + length :]
                if flags & 1:
                    kind = struct.unpack("<I", content[4:8])[0]
                    kinds.append(kind)
                    if kind == 0x00041006:
                        self.states[str(uuid.UUID(bytes_le=content[24:40])).upper()] = int(re.search(rb'"PipelineState">(\d+)', content)[1])
        return kinds

    def drain(self, command):
        """Receives until the pipeline's state came; the types of all messages, and whether an answer with data said Done."""
        kinds, early = [], False
        while command not in self.states:
            answer = self.receive(command)
            got = self.messages(answer)
            early |= bool(got) and "CommandState/Done" in answer.text
            if not got:
                raise SystemExit(f"a Receive brought nothing: {answer.status} {answer.text[:400]}")
            kinds += got
        return kinds, early


# Handshakes in another order than the connections came in, with a silent one before all.
silent, first, second = dial(), dial(), dial()
body = f'<p:Receive xmlns:p="{SHELL}"><p:DesiredStream>stdout</p:DesiredStream></p:Receive>'
nowhere = str(uuid.uuid4()).upper()
lab.emit("order", faults=[request("Receive", body, nowhere, plain=second).fault(), request("Receive", body, nowhere, plain=first).fault()])

session = Session()
lab.emit("create", status=session.created.status, shell=f"<rsp:ShellId>{session.id}</rsp:ShellId>" in session.created.text, resource="<rsp:ResourceUri>" in session.created.text)
kinds = []
while 0x00021005 not in kinds:
    kinds += session.messages(session.receive())
lab.emit("opened", kinds=[f"{kind:08x}" for kind in kinds])
waiting = session.receive(later=True)

# Two commands one after the other, the second begun before the first was terminated; a terminate beside an open Receive.
one, answer = session.command(pipeline("Get-Mailbox", *named("ResultSize", "<I32>3</I32>")))
two, also = session.command(pipeline("Get-Mailbox", *named("Identity", f"<S>{given.identity}</S>")))
kinds, early = session.drain(one)
done = [session.receive(one) for _ in range(2)]
beside = session.receive(one, later=True)
ended = session.signal(one, f"{SHELL}/signal/terminate")
beside = beside.wait("Receive beside terminate")
gone = session.receive(one)
more, _ = session.drain(two)
session.signal(two, f"{SHELL}/signal/terminate")
lab.emit(
    "commands",
    statuses=[answer.status, also.status, ended.status],
    outputs=[kinds.count(0x00041004), more.count(0x00041004)],
    states=[session.states[one], session.states[two]],
    done_with_data=early,
    done=["CommandState/Done" in answer.text for answer in done],
    beside="CommandState/Done" in beside.text or beside.fault() == gone.fault(),
    gone=gone.fault(),
)

# A large result that nobody reads is stopped; the Receive that was open gets the state.
big, _ = session.command(pipeline("Get-Mailbox", *named("ResultSize", "<S>Unlimited</S>")))
session.messages(session.receive(big))
stopped = session.signal(big, "powershell/signal/crtl_c")
session.drain(big)
again = session.signal(big, "powershell/signal/crtl_c")
session.signal(big, f"{SHELL}/signal/terminate")
lab.emit("stop", status=stopped.status, state=session.states[big], again=again.status)

# A write, a script, an unknown cmdlet: states, and the session goes on.
changed, _ = session.command(pipeline("Set-Mailbox", *named("Identity", f"<S>{given.identity}</S>"), *named("CustomAttribute1", f"<S>{uuid.uuid4()}</S>")))
session.drain(changed)
unknown, _ = session.command(pipeline("Get-NoSuchThing"))
session.drain(unknown)
lab.emit("more", states=[session.states[changed], session.states[unknown]])

# What goes wrong: a bad token on an open session fails one request alone; unknown shell and command; the query in its other forms.
bad = session.receive(token=bearer[:-6] + "AAAAAA")
amp = request("Receive", body, nowhere, target=f"{url.path}?a=b&amp;PSVersion=7.0.13")
lone = request("Receive", body, nowhere, target=f"{url.path};PSVersion=7.0.13")
upper = request("Receive", body, nowhere, target=f"{url.path.upper()}?PSVersion=7.0.13")
lab.emit(
    "wrong",
    bad_token=bad.status,
    unknown_command=session.receive(nowhere).fault(),
    forms=[amp.fault(), lone.fault(), upper.fault()],
    still=waiting.is_alive(),
)

# Delete ends the open Receive at once; then the shell is gone.
begun = time.monotonic()
deleted = session.send("Delete", "")
last = waiting.wait("Receive beside Delete")
lab.emit("delete", status=deleted.status, open_receive=last.fault(), soon=time.monotonic() - begun < 5, after=session.receive().fault())
silent.close()

# No session ticket comes in TLS 1.3, also after bytes were exchanged.
with tls.wrap_socket(dial(), server_hostname=url.hostname) as stream:
    stream.sendall(f"GET /ping HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
    while stream.recv(65536):
        pass
    ticket = stream.session
    lab.emit("tls", version=stream.version(), ticket=bool(ticket and ticket.has_ticket))
