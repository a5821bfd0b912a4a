"""Conversations of remote PowerShell in which neither end is ours, as text files that the tests replay to both our halves.

record_conversations.py FOLDER. psrpcore's client talks to psrpcore's server, and pypsrp over WS-Management to psrpcore's server behind an endpoint in
this file. Ids, keys, times and secrets are fixed: two runs write the same bytes.

A file is a row of blocks. `>>> ` begins what the client sends, `<<< ` what the server does; the body follows until the next block.
`DATA stream=S pipeline=P`: bytes of a channel (S is `default` or `pr`, P is `-` for the pool). `STOP pipeline=P` and `FORGET pipeline=P` are of the transport.
With pypsrp the first word is the WS-Management action, or the HTTP status of an answer, and the body is the envelope. Bytes of PSRP stand decoded,
one fragment each: `{{OBJECT DESTINATION TYPE POOL PIPELINE BOM`, a new line, the CLIXML and `}}`. The first fragment of several has `FRAGMENT/FLAGS` as a
seventh word; the others are `{{OBJECT FRAGMENT/FLAGS`, a new line, the rest of the text and `}}`.
"""

import base64
import datetime
import pathlib
import random
import re
import sys
import uuid
import xml.etree.ElementTree as ET

import psrpcore
import psrpcore._crypto
import psrpcore._server
from cryptography.hazmat.primitives.asymmetric import rsa
from psrpcore.types import (
    ErrorCategory, ErrorCategoryInfo, ErrorRecord, HostInfo, NETException, PSByte, PSChar, PSDateTime, PSDecimal, PSDouble, PSDuration, PSGuid, PSInt,
    PSInt64, PSInvocationState, PSRPMessageType, PSSecureString, PSSingle, PSString, PSUInt64, PSUri, PSVersion,
)
from pypsrp.complex_objects import ObjectMeta
from pypsrp.exceptions import WinRMTransportError, WSManFaultError
from pypsrp.host import PSHost, PSHostUserInterface
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
NOBODY = uuid.UUID(int=0)
WHEN = PSDateTime(2024, 2, 29, 12, 0, 1, 500000, tzinfo=datetime.timezone.utc)
ids = 0


def next_id():
    global ids
    ids += 1
    return uuid.UUID(int=0xC0FFEE0000004000800000000000 << 16 | ids)


def prime(dice):
    """1024 bits, by Fermat with a few bases: enough for a key that protects nothing."""
    while True:
        found = dice.getrandbits(1024) | 3 << 1022 | 1
        if found % 65537 != 1 and all(pow(base, found - 1, found) == 1 for base in (2, 3, 5, 7)):
            return found


def fixed_key():
    dice = random.Random(20240229)
    p, q = prime(dice), prime(dice)
    d = pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(65537, p * q))
    return numbers.private_key()


def encrypt_session_key(exchange_key, session_key):
    """PKCS #1 version 1.5 whose padding is not random."""
    modulus = int.from_bytes(exchange_key[20:], "little")
    size = len(exchange_key) - 20
    padded = b"\x00\x02" + b"\x55" * (size - 3 - len(session_key)) + b"\x00" + session_key
    return bytes.fromhex("010200001066000000a40000") + pow(int.from_bytes(padded, "big"), 65537, modulus).to_bytes(size, "little")


KEY = fixed_key()
uuid.uuid4 = next_id
rsa.generate_private_key = lambda *_, **__: KEY
psrpcore._server.encrypt_session_key = encrypt_session_key


def type_name(number):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", PSRPMessageType(number).name).upper().replace("RUNSPACE_POOL", "RUNSPACEPOOL")


def shown(data):
    """Fragments as text. The text of a message is ASCII wherever it is cut, so each part is text of its own."""
    out = []
    while data:
        number, fragment, flags, length = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big"), data[16] & 3, int.from_bytes(data[17:21], "big")
        blob, data = data[21 : 21 + length], data[21 + length :]
        if flags & 1:
            head, blob = blob[:40], blob[40:]
            bom = blob.startswith(b"\xef\xbb\xbf")
            words = [number, int.from_bytes(head[:4], "little"), type_name(int.from_bytes(head[4:8], "little")), uuid.UUID(bytes_le=head[8:24]), uuid.UUID(bytes_le=head[24:40]), int(bom)]
            blob = blob[3 * bom :]
            if flags != 3:
                words.append(f"0/{flags}")
        else:
            words = [number, f"{fragment}/{flags}"]
        text = blob.decode()
        assert not re.search("[\r\n]|{{|}}", text), "the text would not be read back"
        out.append("{{" + " ".join(map(str, words)) + "\n" + text + "}}\n")
    return "".join(out)


class File:
    def __init__(self, name):
        global ids
        ids, self.path, self.text = 0, folder / f"{name}.txt", []

    def block(self, line, body=""):
        self.text.append(f"{line}\n{body}")

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if not failed:
            self.path.write_text("".join(self.text), newline="\n")


def server_pool():
    pool = psrpcore.ServerRunspacePool({"Private": {"Nested": [1, 2]}})
    pool._session_key = bytes(range(32))
    pool._cipher.register_key(pool._session_key)
    return pool


def payloads(pool, capacity):
    while (payload := pool.data_to_send(capacity)) is not None:
        yield payload


class Talk:
    """psrpcore at both ends."""

    def __init__(self, file, capacity=32768, host=None, low=1, high=1):
        self.file, self.capacity = file, capacity
        self.client = psrpcore.ClientRunspacePool(host=host or HostInfo(IsHostNull=True, IsHostUINull=True, IsHostRawUINull=True, UseRunspaceHost=False), min_runspaces=low, max_runspaces=high)
        self.server = server_pool()
        self.client.open()
        self.turn()

    def turn(self):
        """All that both have to say, and what they heard."""
        heard = []
        while True:
            spoke = False
            for arrow, source, target in ((">>>", self.client, self.server), ("<<<", self.server, self.client)):
                for payload in payloads(source, self.capacity):
                    spoke = True
                    stream = "pr" if payload.stream_type == psrpcore.StreamType.prompt_response else "default"
                    self.file.block(f"{arrow} DATA stream={stream} pipeline={payload.pipeline_id or '-'}", shown(payload.data))
                    target.receive_data(payload)
                while (event := target.next_event()) is not None:
                    heard.append(event)
            if not spoke:
                return heard

    def start(self, shell):
        pipeline = psrpcore.ServerPipeline(self.server, shell.pipeline_id)
        shell.start()
        self.turn()
        pipeline.start()
        self.turn()
        return pipeline

    def run(self, *commands, **options):
        shell = psrpcore.ClientPowerShell(self.client, **options)
        for name, parameters in commands:
            shell.add_command(name).add_parameters(**parameters)
        return shell, self.start(shell)

    def finish(self, shell, pipeline):
        if pipeline.state == PSInvocationState.Running:
            pipeline.complete()
        self.turn()
        self.file.block(f">>> FORGET pipeline={shell.pipeline_id}")
        pipeline.close()
        shell.close()
        self.turn()

    def close(self):
        self.server.close()
        self.turn()


def failure(text, name="Failure", category=ErrorCategory.NotSpecified):
    return ErrorRecord(NETException(text), ErrorCategoryInfo(Category=category, Activity="Get-Thing", Reason="Exception"), FullyQualifiedErrorId=name)


VALUES = [
    PSString("text with \u00e9, \U0001f600, \x01, _x0041_ and <tag>"), PSChar("x"), True, False, PSByte(255), PSInt(-5), PSInt64(2**62), PSUInt64(2**64 - 1),
    PSSingle(1.5), PSDouble(1e300), PSDecimal("79228162514264337593543950335"), WHEN, PSDuration(days=-3, seconds=5),
    PSGuid("7f2e3d5e-0f54-4a5e-9c5d-9e5f2f6f8a11"), PSUri("https://contoso.com/a?b=c"), PSVersion("15.20.8769.3"), b"\x00\x01\xff", None,
    [1, "two", [3.5, None]], {"key": "value", "list": [1, 2]}, PSString(""),
]


def streams(pipeline):
    pipeline.write_debug("one debug record")
    pipeline.write_verbose("one verbose record")
    pipeline.write_warning("one warning record")
    pipeline.write_error(NETException("one error record"), fully_qualified_error_id="OneError", category_info=ErrorCategoryInfo(Category=ErrorCategory.InvalidArgument, Activity="Get-Thing", Reason="Exception"))
    pipeline.write_information("one information record", "source", time_generated=WHEN, tags=["first", "second"], user="user", computer="computer", process_id=7, native_thread_id=8, managed_thread_id=9)
    pipeline.write_progress("Working", 7, "one progress record", current_operation="counting", percent_complete=50, seconds_remaining=9)
    pipeline.write_output("one output")


with File("psrpcore-pool") as file:
    talk = Talk(file, low=2, high=3)
    for ask, answer in (
        (talk.client.get_available_runspaces, 3), (lambda: talk.client.set_max_runspaces(2), True), (lambda: talk.client.set_min_runspaces(1), True),
        (lambda: talk.client.set_min_runspaces(7), False), (talk.client.reset_runspace_state, True),
    ):
        asked = ask()
        talk.turn()
        talk.server.runspace_availability_response(asked, answer)
        talk.turn()
    talk.close()

with File("psrpcore-run") as file:
    talk = Talk(file)
    shell = psrpcore.ClientPowerShell(talk.client, history="Get-Mailbox a | Set-Mailbox; Get-User")
    shell.add_command("Get-Mailbox").add_argument("a").add_parameters(ResultSize=5, Archive=True)
    shell.add_command("Set-Mailbox").add_parameter("CustomAttribute1", ["x", "y"])
    shell.add_statement().add_command("Get-User")
    pipeline = talk.start(shell)
    pipeline.write_output("first")
    talk.finish(shell, pipeline)
    shell = psrpcore.ClientPowerShell(talk.client).add_script("Get-Date")
    pipeline = talk.start(shell)
    pipeline._change_state(PSInvocationState.Failed, failure("no scripts here", "ScriptsNotAllowed", ErrorCategory.ParserError))
    talk.finish(shell, pipeline)
    talk.close()

with File("psrpcore-input") as file:
    talk = Talk(file)
    shell, pipeline = talk.run(("Echo-Input", {}), no_input=False)
    for value in VALUES:
        # A null that goes in is written by psrpcore as one that comes out: no message of a client's.
        if value is not None:
            shell.send(value)
        pipeline.write_output(value)
        talk.turn()
    shell.send_eof()
    talk.finish(shell, pipeline)
    talk.close()

with File("psrpcore-streams") as file:
    talk = Talk(file)
    shell, pipeline = talk.run(("Write-Streams", {}))
    streams(pipeline)
    talk.finish(shell, pipeline)
    shell, pipeline = talk.run(("Get-Thing", {}))
    pipeline._change_state(PSInvocationState.Failed, failure("went wrong"))
    talk.finish(shell, pipeline)
    talk.server.set_broken(failure("the pool broke", "Broke"))
    talk.turn()

with File("psrpcore-stop") as file:
    talk = Talk(file)
    shell, pipeline = talk.run(("Start-Sleep", {"Seconds": PSInt(600)}))
    pipeline.write_output("before")
    talk.turn()
    file.block(f">>> STOP pipeline={shell.pipeline_id}")
    pipeline.begin_stop()
    pipeline.stop()
    talk.finish(shell, pipeline)
    talk.close()

with File("psrpcore-nested") as file:
    talk = Talk(file, low=1, high=2)
    outer, outer_pipeline = talk.run(("Get-Mailbox", {}))
    inner, inner_pipeline = talk.run(("Get-User", {}), is_nested=True)
    inner_pipeline.write_output("inner")
    outer_pipeline.write_output("outer")
    talk.finish(inner, inner_pipeline)
    talk.finish(outer, outer_pipeline)
    talk.close()

with File("psrpcore-metadata") as file:
    talk = Talk(file)
    shell = psrpcore.ClientGetCommandMetadata(talk.client, ["Get-*", "Set-Mailbox"], psrpcore.types.CommandTypes.Cmdlet | psrpcore.types.CommandTypes.Function)
    pipeline = talk.start(shell)
    pipeline.write_output(psrpcore.types.CommandMetadataCount(Count=1))
    pipeline.write_output({"Name": "Set-Mailbox"})
    talk.finish(shell, pipeline)
    talk.close()

with File("psrpcore-host") as file:
    talk = Talk(file, host=HostInfo(IsHostNull=False, IsHostUINull=False, IsHostRawUINull=True, UseRunspaceHost=False))
    shell = psrpcore.ClientPowerShell(talk.client, host=HostInfo(IsHostNull=False, IsHostUINull=False, IsHostRawUINull=True, UseRunspaceHost=False)).add_command("Invoke-HostCall")
    pipeline = talk.start(shell)
    asks, answers = psrpcore.ServerHostRequestor(pipeline), psrpcore.ClientHostResponder(shell)
    call = asks.read_line()
    talk.turn()
    answers.read_line(call, "typed here")
    talk.turn()
    asks.write_line("a line")
    asks.write_warning_line("a warning on the host")
    talk.turn()
    call = asks.prompt_for_choice("caption", "message", [psrpcore.types.ChoiceDescription("&Yes", "do it"), psrpcore.types.ChoiceDescription("&No", "leave it")], 1)
    talk.turn()
    answers.prompt_for_choice(call, 0)
    talk.turn()
    call = asks.read_line()
    talk.turn()
    shell.host_response(call, error_record=failure("nobody is here"))
    talk.finish(shell, pipeline)
    # The pool's host.
    asks, answers = psrpcore.ServerHostRequestor(talk.server), psrpcore.ClientHostResponder(talk.client)
    call = asks.read_line()
    talk.turn()
    answers.read_line(call, "typed there")
    talk.turn()
    asks.write_line("a line of the pool")
    talk.turn()
    talk.close()

with File("psrpcore-secrets") as file:
    talk = Talk(file)
    talk.server.request_key()
    talk.turn()
    shell, pipeline = talk.run(("Measure-Secret", {"Secret": PSSecureString("p@ss w\u00f6rd \U0001f600")}))
    pipeline.write_output(PSSecureString("p@ss w\u00f6rd"))
    talk.finish(shell, pipeline)
    talk.close()

with File("psrpcore-events") as file:
    talk = Talk(file)
    talk.server.send_event(1, "source", sender="sender", source_args=["a", 2], message_data="data", time_generated=WHEN, computer="computer")
    talk.turn()
    shell, pipeline = talk.run(("Get-Mailbox", {}))
    pipeline.write_output("after the event")
    talk.finish(shell, pipeline)
    talk.close()

with File("psrpcore-fragments") as file:
    talk = Talk(file, capacity=1500)
    shell, pipeline = talk.run(("Echo-Value", {"Value": "in several fragments " * 200}))
    pipeline.write_output("out several fragments " * 300)
    for number in range(12):
        pipeline.write_output(f"small {number}")
    talk.finish(shell, pipeline)
    talk.close()

# The server's half of WS-Management that pypsrp needs, around psrpcore's server.
SPACES = {"s": "http://www.w3.org/2003/05/soap-envelope", "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing", "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
          "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell", "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
          "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"}
SHELL = SPACES["rsp"]
POWERSHELL = "http://schemas.microsoft.com/powershell"
ENCODED = re.compile(r"(<(?:\w+:)?(?:creationXml|connectXml|connectResponseXml|Arguments|Stream)\b[^<>]*(?<!/)>)([A-Za-z0-9+/=]+)(<)")


class Endpoint:
    """What pypsrp's transport sends goes here; `serve` is called for each pipeline."""

    def __init__(self, file, serve, capacity=100_000, refusal=None, **options):
        self.file, self.serve, self.capacity, self.refusal = file, serve, capacity, refusal
        self.pool, self.pipelines, self.waiting = server_pool(), {}, {}
        self.connection = WSMan("localhost", port=5986, path="powershell-liveid", ssl=True, auth="basic", username="user", password="not sent", cert_validation=False, no_proxy=True, **options)
        self.connection.transport.send = self.send

    def envelope(self, relates, action, body):
        spaces = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in SPACES.items())
        header = f"<a:Action>{action}</a:Action><a:MessageID>uuid:{str(next_id()).upper()}</a:MessageID><a:RelatesTo>{relates}</a:RelatesTo>"
        return f"<s:Envelope{spaces}><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"

    def show(self, line, text):
        self.file.block(line, ENCODED.sub(lambda found: f"{found[1]}\n{shown(base64.b64decode(found[2]))}{found[3]}", text) + "\n")

    def receive(self, data, stream, pipeline):
        kind = psrpcore.StreamType.prompt_response if stream == "pr" else psrpcore.StreamType.default
        self.pool.receive_data(psrpcore.PSRPPayload(base64.b64decode(data), kind, pipeline))
        while (event := self.pool.next_event()) is not None:
            if isinstance(event, (psrpcore.CreatePipelineEvent, psrpcore.GetCommandMetadataEvent)):
                self.pipelines[event.pipeline_id].start()
            if getattr(event, "pipeline_id", None) in self.pipelines:
                self.serve(self.pipelines[event.pipeline_id], event)

    def collect(self):
        for payload in payloads(self.pool, self.capacity):
            self.waiting.setdefault(payload.pipeline_id, []).append(payload.data)

    def send(self, message, **_):
        root = ET.fromstring(message)
        action, relates = root.find(".//a:Action", SPACES).text, root.find(".//a:MessageID", SPACES).text
        name = action.rpartition("/")[2]
        self.show(f">>> {name}", message.decode())
        found = self.refusal(name) if self.refusal else None
        body = found or self.perform(name, root)
        status = 500 if "<s:Fault>" in body else 200
        answer = self.envelope(relates, action + "Response" if status == 200 else SPACES["w"].rpartition(".")[0] + "/fault", body)
        self.show(f"<<< {status} {name}", answer)
        if status == 500:
            raise WinRMTransportError("http", 500, answer)
        return answer.encode()

    def perform(self, name, root):
        inside = lambda tag: root.find(f".//rsp:{tag}", SPACES)
        id_of = lambda node: None if node is None or node.get("CommandId") is None else uuid.UUID(node.get("CommandId"))
        if name == "Create":
            self.shell = inside("Shell").get("ShellId")
            self.receive(root.find(f".//{{{POWERSHELL}}}creationXml").text, "default", None)
            return (f'<x:ResourceCreated><a:Address>https://localhost:5986/powershell-liveid</a:Address><a:ReferenceParameters><w:ResourceURI>{POWERSHELL}/Microsoft.Exchange</w:ResourceURI>'
                    f'<w:SelectorSet><w:Selector Name="ShellId">{self.shell}</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>{self.shell}</rsp:ShellId></rsp:Shell>')
        if name == "Command":
            pipeline = id_of(inside("CommandLine"))
            self.pipelines[pipeline] = psrpcore.ServerPipeline(self.pool, pipeline)
            self.receive(inside("Arguments").text, "default", pipeline)
            return f"<rsp:CommandResponse><rsp:CommandId>{str(pipeline).upper()}</rsp:CommandId></rsp:CommandResponse>"
        if name == "Send":
            self.receive(inside("Stream").text, inside("Stream").get("Name"), id_of(inside("Stream")))
            return "<rsp:SendResponse/>"
        if name == "Signal":
            pipeline = self.pipelines[id_of(inside("Signal"))]
            if inside("Code").text.endswith("crtl_c") and pipeline.state == PSInvocationState.Running:
                pipeline.begin_stop()
                pipeline.stop()
            return "<rsp:SignalResponse/>"
        if name == "Receive":
            self.collect()
            command = id_of(inside("DesiredStream"))
            if not self.waiting.get(command):
                return fault(2150858793, "w:TimedOut", "nothing came in time", "s:Receiver")
            of = f' CommandId="{str(command).upper()}"' if command else ""
            data = base64.b64encode(self.waiting[command].pop(0)).decode()
            done = command and not self.waiting[command] and self.pipelines[command].state in (PSInvocationState.Completed, PSInvocationState.Failed, PSInvocationState.Stopped)
            state = f'<rsp:CommandState{of} State="{SHELL}/CommandState/{"Done" if done else "Running"}"/>' if command else ""
            return f'<rsp:ReceiveResponse><rsp:Stream Name="stdout"{of}>{data}</rsp:Stream>{state}</rsp:ReceiveResponse>'
        if name in ("Disconnect", "Reconnect"):
            return f"<rsp:{name}Response/>"
        if name == "Connect":
            return "<rsp:ConnectResponse/>"
        return ""


def fault(code, subcode, text, value="s:Sender"):
    return (f"<s:Fault><s:Code><s:Value>{value}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang=\"en-US\">{text}</s:Text></s:Reason>"
            f'<s:Detail><f:WSManFault Code="{code}" Machine="localhost"><f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault>')


class Keyboard(PSHostUserInterface):
    def ReadLine(self, runspace, pipeline):
        return "typed here"

    def WriteLine2(self, runspace, pipeline, value):
        pass


def serve(pipeline, event):
    """What each command of pypsrp's does."""
    if isinstance(event, psrpcore.CreatePipelineEvent):
        name = event.pipeline.commands[0].command_text
        if name == "Write-Streams":
            streams(pipeline)
        elif name == "Invoke-HostCall":
            psrpcore.ServerHostRequestor(pipeline).read_line()
            return
        elif name == "Write-Large":
            pipeline.write_output("large " * 8000)
        elif name in ("Echo-Input", "Start-Sleep"):
            return
        elif name == "Get-NoSuch":
            pipeline._change_state(PSInvocationState.Failed, failure("no such command", "CommandNotFoundException", ErrorCategory.ObjectNotFound))
            return
        else:
            pipeline.write_output(f"output of {name}")
        pipeline.complete()
    elif isinstance(event, psrpcore.PipelineInputEvent):
        pipeline.write_output(event.data)
    elif isinstance(event, psrpcore.EndOfPipelineInputEvent):
        pipeline.complete()
    elif isinstance(event, psrpcore.PipelineHostResponseEvent):
        pipeline.write_output(event.result)
        pipeline.complete()


def refused(name):
    return fault(2150859173, "w:QuotaLimit", "This user is allowed a maximum number of 3 concurrent shells, which has been exceeded.") if name == "Create" else None


def invoke(session, name, given=None, **parameters):
    shell = PowerShell(session)
    shell.add_cmdlet(name).add_parameters(parameters)
    shell.invoke(given)
    shell.close()
    return shell.output


def open_pool(endpoint, **options):
    return RunspacePool(endpoint.connection, configuration_name="Microsoft.Exchange", **options)


with File("pypsrp-run") as file, open_pool(Endpoint(file, serve), min_runspaces=1, max_runspaces=2) as session:
    invoke(session, "Get-Mailbox", ResultSize=7)
    invoke(session, "Write-Streams")
    assert invoke(session, "Echo-Input", given=[1, "two", ["three", 4]]) == [1, "two", ["three", 4]]
    invoke(session, "Get-NoSuch")

with File("pypsrp-host") as file, open_pool(Endpoint(file, serve), host=PSHost(None, None, False, "recorder", None, Keyboard(), "1.0")) as session:
    assert invoke(session, "Invoke-HostCall") == ["typed here"]

with File("pypsrp-secrets") as file, open_pool(Endpoint(file, serve)) as session:
    session.exchange_keys()
    invoke(session, "Measure-Secret", Secret=session.serialize("p@ss w\u00f6rd", ObjectMeta("SS")))

with File("pypsrp-small-envelopes") as file, open_pool(Endpoint(file, serve, capacity=5000, max_envelope_size=10_000)) as session:
    # pypsrp goes up to 500 KiB for a server of protocol 2.2 or later; this one keeps to what was asked for.
    session.connection.max_envelope_size, session.connection.max_payload_size = 10_000, 5_000
    session._fragmenter.max_size = 5_000
    assert invoke(session, "Write-Large", Value="in " * 5000) == ["large " * 8000]

with File("pypsrp-stop") as file, open_pool(Endpoint(file, serve)) as session:
    shell = PowerShell(session)
    shell.add_cmdlet("Start-Sleep").add_parameters({"Seconds": 600})
    shell.begin_invoke()
    shell.stop()

with File("pypsrp-reconnect") as file, open_pool(Endpoint(file, serve)) as session:
    invoke(session, "Get-Mailbox")
    session.disconnect()
    session.connect()
    invoke(session, "Get-User")

with File("pypsrp-quota") as file:
    try:
        open_pool(Endpoint(file, serve, refusal=refused)).open()
    except WSManFaultError as found:
        assert found.code == 2150859173
