"""The transport habits of PowerShell 7 on Linux, from sockets up, for the scripts that play such a client: a TCP and TLS connection for
every request, Basic unasked, ';PSVersion=' behind the query, prefixes that change their namespace within an envelope."""

import base64
import gzip
import itertools
import json
import re
import socket
import ssl
import struct
import sys
import threading
import urllib.parse
import uuid

import lab

if len(sys.argv) == 2:
    # The scripted endpoint's ready file has all that is needed.
    with open(sys.argv[1], encoding="utf-8") as file:
        ready = json.load(file)
    user, bearer = ready["user"], ready["password"].removeprefix("Bearer ")
else:
    given = lab.arguments(identity="a mailbox that may be changed")
    ready, user, bearer = given.lab, f"OAuthUser@{given.lab['tenant_id']}", lab.token(given)
url = urllib.parse.urlsplit(ready["powershell"])
tls = ssl.create_default_context(cafile=ready["ca_file"])
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
FAULT = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
TARGET = f"{url.path}?BasicAuthToOAuthConversion=true;PSVersion=7.0.13"
counter = itertools.count(1)


class Answer:
    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0] else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        whole = "transfer-encoding" not in self.headers and self.headers.get("content-length") == str(len(self.body))
        if not whole:
            raise SystemExit(f"an answer without its exact length: {head!r}, {len(self.body)} bytes came")
        if self.headers.get("content-encoding") == "gzip":
            self.body = gzip.decompress(self.body)
        self.text = self.body.decode()

    def fault(self):
        """The number of a fault, where it has the shape that such a client can read."""
        if self.status != 500 or f"<a:Action>{FAULT}</a:Action>" not in self.text:
            return None
        code = re.search(r'<f:WSManFault[^>]*Code="(\d+)"[^>]*><f:Message>([^<]+)', self.text)
        return code and int(code[1])


def dial():
    return socket.create_connection((url.hostname, url.port), timeout=60)


def envelope(action, body, shell=None, options="", target=TARGET):
    """A request's envelope, as PowerShell on Linux writes it."""
    selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>' if shell else ""
    name = f"{TRANSFER}/{action}" if action in ("Create", "Delete") else f"{SHELL}/{action}"
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration" '
        'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:xsi="http://www.w3.org/2001/XMLSchema" '
        'xmlns:h="http://schemas.microsoft.com/wbem/wsman/1/windows/shell" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd" ><s:Header>'
        f"<a:To>HTTPS://{url.netloc}{target}</a:To>"
        '<w:ResourceURI s:mustUnderstand="true">http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI>'
        '<a:ReplyTo><a:Address s:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>'
        f'<a:Action>{name}</a:Action><w:MaxEnvelopeSize s:mustUnderstand="true">512000</w:MaxEnvelopeSize>'
        f"<a:MessageID>uuid:571679C2-60FD-0006-0000-{next(counter):08X}0000</a:MessageID><w:OperationTimeout>PT3M</w:OperationTimeout>"
        '<w:Locale xml:lang="en-us" s:mustUnderstand="false"/><p:DataLocale xml:lang="en-us" s:mustUnderstand="false"/>'
        f'<w:OptionSet s:mustUnderstand="true">{options}</w:OptionSet>{selector}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
    ).replace("&", "&amp;")


def basic(token=None):
    return "Basic " + base64.b64encode(f"{user}:Bearer {token or bearer}".encode()).decode()


def headers(length, authorization):
    """The headers that PowerShell on Linux sends."""
    return {
        "Connection": "Keep-Alive", "Content-Length": str(length), "Content-Type": "application/soap+xml;charset=UTF-8", "Host": url.netloc,
        "Authorization": authorization,
    }


def head(target, fields, first="POST {} HTTP/1.1"):
    return "".join([first.format(target) + "\r\n", *(f"{name}: {value}\r\n" for name, value in fields.items()), "\r\n"]).encode()


def read_answer(stream):
    """One answer, which must tell its length."""
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


def connect(plain=None):
    """A TLS connection, over `plain` where that was dialled before."""
    return tls.wrap_socket(plain or dial(), server_hostname=url.hostname)


def whole(stream, target, content, authorization):
    """The usual way to send a request."""
    data = content.encode()
    stream.sendall(head(target, headers(len(data), authorization)) + data)


def request(action, body, shell=None, options="", target=TARGET, token=None, plain=None):
    """One request over a connection of its own; `plain` is one that was dialled before."""
    content = envelope(action, body, shell, options, target)
    with connect(plain) as stream:
        whole(stream, target, content, basic(token))
        return read_answer(stream)


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
    """A session; `ask` sends one request of it, in a way of its own."""

    def __init__(self, ask=None):
        self.ask = ask or request
        self.id, self.objects, self.states = str(uuid.uuid4()).upper(), 2, {}
        first = fragment(1, 0x00010002, self.id, None, CAPABILITY) + fragment(2, 0x00010004, self.id, None, INIT)
        self.created = self.ask(
            "Create",
            f'<p:Shell Name="Runspace1" ShellId="{self.id}" xmlns:p="{SHELL}"><p:InputStreams>stdin pr</p:InputStreams><p:OutputStreams>stdout</p:OutputStreams>'
            f'<creationXml xmlns="http://schemas.microsoft.com/powershell">{base64.b64encode(first).decode()}</creationXml></p:Shell>',
            options='<w:Option Name="protocolversion" Type="x:string">2.3</w:Option>',
        )

    def receive(self, command=None, **named):
        what = f' CommandId="{command}"' if command else ""
        return self.send("Receive", f'<p:Receive xmlns:p="{SHELL}"><p:DesiredStream{what}>stdout</p:DesiredStream></p:Receive>', **named)

    def send(self, action, body, later=False, **named):
        return (Later if later else self.ask)(action, body, self.id, **named)

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
