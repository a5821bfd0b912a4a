"""psrpcore as client of our server half, and as server of our client half, over the pipe of the binary `psrp-pipe`.

counterpart_psrpcore.py PSRP-PIPE CAPACITY. Each conversation runs with pieces of at most CAPACITY bytes in both directions. Prints one
line of JSON a step; the test that reads them decides.
"""

import json
import struct
import subprocess
import sys
import uuid

import psrpcore
from psrpcore.types import (
    HostInfo,
    NETException,
    PSByte,
    PSChar,
    PSDateTime,
    PSDecimal,
    PSDouble,
    PSDuration,
    PSGuid,
    PSInt,
    PSInt64,
    PSSecureString,
    PSSingle,
    PSString,
    PSUInt64,
    PSUri,
    PSVersion,
)

binary, capacity = sys.argv[1], int(sys.argv[2])
NOBODY = uuid.UUID(int=0)


def emit(step, **fields):
    print(json.dumps({"step": f"{side}: {step}", **fields}, ensure_ascii=False, default=str), flush=True)


class Pipe:
    """Our half at the other end. `pool` is psrpcore's."""

    def __init__(self, half, pool):
        self.process = subprocess.Popen([binary, half, "--capacity", str(capacity)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pool, self.ours, self.theirs, self.refusals = pool, [], [], []
        self.read()

    def frame(self, kind, pipeline, content=b""):
        self.process.stdin.write(struct.pack(">I", 17 + len(content)) + kind + (pipeline or NOBODY).bytes + content)
        self.process.stdin.flush()
        self.read()

    def read(self):
        while True:
            [length] = struct.unpack(">I", self.process.stdout.read(4))
            frame = self.process.stdout.read(length)
            kind, pipeline, content = frame[:1], uuid.UUID(bytes=frame[1:17]), frame[17:]
            if kind == b"Z":
                return
            if kind == b"X":
                self.refusals.append(content.decode())
            elif kind == b"E":
                self.ours.append({**json.loads(content), "pipeline": pipeline})
            else:
                stream = psrpcore.StreamType.prompt_response if kind == b"P" else psrpcore.StreamType.default
                self.pool.receive_data(psrpcore.PSRPPayload(content, stream, pipeline if pipeline != NOBODY else None))

    def turn(self):
        """Sends all that psrpcore has to say, and lets it read what came."""
        while True:
            payload = self.pool.data_to_send(capacity)
            if payload is not None:
                self.frame(b"P" if payload.stream_type == psrpcore.StreamType.prompt_response else b"D", payload.pipeline_id, payload.data)
                continue
            event = self.pool.next_event()
            if event is not None:
                self.theirs.append(event)
            elif not self.pool._send_buffer:
                return

    def order(self, pipeline, do, **fields):
        """What the user of our half does."""
        self.frame(b"O", pipeline, json.dumps({"do": do, **fields}).encode())
        self.turn()

    def heard(self, name=None):
        """Events of our half since the last call."""
        found, self.ours = self.ours, []
        return [event for event in found if name in (None, event["event"])]

    def read_by_psrpcore(self):
        """psrpcore's events since the last call."""
        found, self.theirs = self.theirs, []
        return found

    def end(self):
        self.process.stdin.close()
        emit("end", refusals=self.refusals, status=self.process.wait(60))


def names(events):
    return [type(event).__name__.removesuffix("Event") for event in events]


# One of each primitive and container that psrpcore has; they come back as they went.
VALUES = [
    PSString("text with \u00e9, \U0001f600, \x01, _x0041_ and <tag>"), PSChar("x"), True, False, PSByte(255), PSInt(-5), PSInt64(2**62), PSUInt64(2**64 - 1),
    PSSingle(1.5), PSDouble(1e300), PSDecimal("79228162514264337593543950335"), PSDateTime(2024, 2, 29, 12, 0, 1, 999999),
    PSDuration(days=-3, seconds=5), PSGuid("7f2e3d5e-0f54-4a5e-9c5d-9e5f2f6f8a11"), PSUri("https://contoso.com/a?b=c"), PSVersion("15.20.8769.3"),
    b"\x00\x01\xff", [1, "two", [3.5, None]], {"key": "value", "list": [1, 2]},
]


def psrpcore_is_client():
    host = HostInfo(IsHostNull=False, IsHostUINull=False, IsHostRawUINull=True, UseRunspaceHost=False)
    pool = psrpcore.ClientRunspacePool(host=host, min_runspaces=1, max_runspaces=3, application_arguments={"who": "psrpcore"})
    pipe = Pipe("server", pool)

    pool.open()
    pipe.turn()
    emit("open", ours=[event["event"] for event in pipe.heard()], theirs=names(pipe.read_by_psrpcore()), state=pool.state.name,
         peer=str(pool.their_capability.protocolversion), private=sorted(pool.application_private_data))

    # What a number of runspaces is answered with.
    counts = {}
    for name, ask in (("available", pool.get_available_runspaces), ("same", lambda: pool.set_max_runspaces(3)), ("more", lambda: pool.set_max_runspaces(5)),
                      ("fewer at least", lambda: pool.set_min_runspaces(2)), ("reset", pool.reset_runspace_state)):
        asked = ask()
        pipe.turn()
        answers = [event for event in pipe.read_by_psrpcore() if getattr(event, "ci", None) == asked]
        counts[name] = [getattr(event, "count", getattr(event, "success", None)) for event in answers]
    emit("runspaces", **counts)

    def started(shell, **more):
        pipe.frame(b"C", shell.pipeline_id)
        shell.start()
        pipe.turn()
        return shell.pipeline_id

    def finish(shell, end="completed"):
        pipe.order(shell.pipeline_id, "finish", end=end)
        events = pipe.read_by_psrpcore()
        pipe.frame(b"T", shell.pipeline_id)
        return events

    metadata = psrpcore.ClientGetCommandMetadata(pool, ["Get-*", "Set-Mailbox"], psrpcore.types.CommandTypes.Cmdlet | psrpcore.types.CommandTypes.Function)
    asked = started(metadata)
    pipe.order(asked, "describe", name="Set-Mailbox")
    [heard] = pipe.heard("metadata")
    count, command = [event.data for event in pipe.read_by_psrpcore() if isinstance(event, psrpcore.PipelineOutputEvent)]
    emit("metadata", names=heard["names"], types=heard["types"], count=count.Count, name=command.Name, parameters=sorted(command.Parameters),
         switch=[name for name, item in command.Parameters.items() if item.SwitchParameter], aliases=command.Parameters["WhatIf"].Aliases)
    finish(metadata)

    # A pipeline of two commands, and a second statement.
    shell = psrpcore.ClientPowerShell(pool, history="Get-Mailbox a | Set-Mailbox")
    shell.add_command("Get-Mailbox").add_argument("a").add_parameters(ResultSize=5, Archive=True)
    shell.add_command("Set-Mailbox").add_parameter("CustomAttribute1", ["x", "y"])
    shell.add_statement().add_command("Get-User")
    ran = started(shell)
    [heard] = pipe.heard("pipeline")
    pipe.order(ran, "output", value="first")
    emit("run", statements=heard["statements"], no_input=heard["no_input"], history=heard["history"], has_ui=heard["has_ui"],
         output=[event.data for event in pipe.read_by_psrpcore()], states=[event.state.name for event in finish(shell)])

    # Input goes and comes back, whatever it is.
    shell = psrpcore.ClientPowerShell(pool, no_input=False).add_command("Echo-Input")
    ran = started(shell)
    wrong = []
    for value in VALUES:
        shell.send(value)
        pipe.turn()
        pipe.order(ran, "echo")
        back = [event.data for event in pipe.read_by_psrpcore()]
        if len(back) != 1 or back[0] != value or not isinstance(back[0], type(value)):
            wrong.append([repr(value), repr(back)])
    shell.send_eof()
    pipe.turn()
    heard = [event["event"] for event in pipe.heard()]
    emit("input", wrong=wrong, inputs=heard.count("input"), ended=heard[-1], states=[event.state.name for event in finish(shell)])

    # Every stream, as record and on the host; an error on the way, then a failure.
    shell = psrpcore.ClientPowerShell(pool).add_command("Write-Streams")
    ran = started(shell)
    pipe.order(ran, "streams")
    events = pipe.read_by_psrpcore()
    records = {type(event).__name__.removesuffix("RecordEvent"): event.record for event in events if hasattr(event, "record")}
    emit("streams", texts={name: records[name].Message for name in ("Debug", "Verbose", "Warning")},
         error=[str(records["Error"].Exception.Message), records["Error"].FullyQualifiedErrorId, records["Error"].CategoryInfo.Category.name],
         information=[records["Information"].MessageData, records["Information"].Source, list(records["Information"].Tags)],
         progress=[records["Progress"].Activity, records["Progress"].PercentComplete, records["Progress"].SecondsRemaining],
         output=[event.data for event in events if isinstance(event, psrpcore.PipelineOutputEvent)],
         calls=sorted(event.method_identifier.name for event in events if isinstance(event, psrpcore.PipelineHostCallEvent)))
    [state] = finish(shell, "went wrong")
    emit("failed", state=state.state.name, reason=state.reason.Exception.Message, id=state.reason.FullyQualifiedErrorId)

    # Host calls, and their answers on the other stream. A second answer is an answer to nothing.
    shell = psrpcore.ClientPowerShell(pool).add_command("Invoke-HostCall")
    ran = started(shell)
    responder = psrpcore.ClientHostResponder(shell)
    pipe.heard()
    for order, answer in (("ask", lambda ci: responder.read_line(ci, "typed here")), ("choose", lambda ci: responder.prompt_for_choice(ci, 0)),
                          ("ask", lambda ci: shell.host_response(ci, error_record=psrpcore.types.ErrorRecord(NETException("nobody is here"), psrpcore.types.ErrorCategoryInfo())))):
        pipe.order(ran, order)
        [call] = pipe.read_by_psrpcore()
        answer(call.ci)
        pipe.turn()
        [heard] = pipe.heard()
        emit("host", method=call.method_identifier.name, parameters=len(call.method_parameters), value=heard["value"], error=heard["error"], same_call=heard["call"] == call.ci)
    pipe.order(ran, "write line", value="a line")
    [call] = pipe.read_by_psrpcore()
    emit("line", method=call.method_identifier.name, parameters=call.method_parameters, ci=call.ci)
    finish(shell)

    # A SecureString each way. Before the exchange there is none: the server asks for it, and psrpcore answers by itself.
    pipe.order(None, "request key")
    emit("key", ours=[event["event"] for event in pipe.heard()], theirs=names(pipe.read_by_psrpcore()))
    shell = psrpcore.ClientPowerShell(pool).add_command("Measure-Secret").add_parameter("Secret", PSSecureString("p@ss w\u00f6rd \U0001f600"))
    ran = started(shell)
    [heard] = pipe.heard("pipeline")
    pipe.order(ran, "secret", value="p@ss w\u00f6rd")
    [event] = pipe.read_by_psrpcore()
    pipe.order(ran, "ask for secret")
    [call] = pipe.read_by_psrpcore()
    psrpcore.ClientHostResponder(shell).read_line_as_secure_string(call.ci, PSSecureString("hidden"))
    pipe.turn()
    [answer] = pipe.heard("answer")
    for order, respond in (("ask for credential", lambda ci, to: to.prompt_for_credential(ci, psrpcore.types.PSCredential("bob", PSSecureString("hidden")))),
                           ("ask for fields", lambda ci, to: to.prompt(ci, {"Name": "typed", "Pw": PSSecureString("hidden")}))):
        pipe.order(ran, order)
        [call] = pipe.read_by_psrpcore()
        respond(call.ci, psrpcore.ClientHostResponder(shell))
        pipe.turn()
        [given] = pipe.heard("answer")
        fields = [[field.Name, field.ParameterTypeFullName] for field in call.method_parameters[2]] if order.endswith("fields") else call.method_parameters
        emit(order, method=call.method_identifier.name, asked=fields, value=given["value"])
    emit("secret", got=heard["statements"][0][0]["arguments"], type=type(event.data).__name__, sent=event.data.decrypt(), typed=answer["value"])
    finish(shell)

    # Stop, twice, and one more that has no runspace yet; the pool has two.
    shells = [psrpcore.ClientPowerShell(pool).add_command(f"Start-Sleep{number}") for number in range(3)]
    ids = [started(shell) for shell in shells]
    running = [ids.index(event["pipeline"]) for event in pipe.heard("pipeline")]
    pipe.frame(b"S", ids[2])
    pipe.frame(b"S", ids[0])
    pipe.frame(b"S", ids[0])
    pipe.turn()
    early = [[ids.index(event.pipeline_id), event.state.name, event.reason.FullyQualifiedErrorId] for event in pipe.read_by_psrpcore()]
    stops = [ids.index(event["pipeline"]) for event in pipe.heard("stop")]
    late = [[event.state.name for event in finish(shell, "stopped")] for shell in shells[:2]]
    pipe.order(ids[0], "output", value="after the end")
    emit("stop", running=running, early=early, stops=stops, late=late, after=names(pipe.read_by_psrpcore()))

    # A nested pipeline says so.
    outer = psrpcore.ClientPowerShell(pool).add_command("Get-Mailbox")
    inner = psrpcore.ClientPowerShell(pool, is_nested=True).add_command("Get-User")
    ids = [started(outer), started(inner)]
    emit("nested", nested=[event["nested"] for event in pipe.heard("pipeline")], states=[[event.state.name for event in finish(shell)] for shell in (inner, outer)])

    pipe.order(None, "close")
    emit("close", theirs=[event.state.name for event in pipe.read_by_psrpcore()], state=pool.state.name)
    pipe.end()


def psrpcore_is_server():
    pool = psrpcore.ServerRunspacePool({"Private": {"Nested": [1, 2]}})
    pipe = Pipe("client", pool)
    pipe.turn()
    theirs = pipe.read_by_psrpcore()
    [opened] = pipe.heard()
    emit("open", ours=opened["event"], private=sorted(opened["private"]), theirs=names(theirs), runspaces=[pool.min_runspaces, pool.max_runspaces],
         ui=[pool.host.IsHostNull, pool.host.IsHostUINull], peer=str(pool.their_capability.protocolversion))

    def started(command, **more):
        """Our client begins a pipeline; psrpcore's half of it, and the request as psrpcore reads it."""
        pipeline = psrpcore.ServerPipeline(pool, uuid.uuid4())
        pipe.order(pipeline.pipeline_id, "invoke", command=command, **more)
        [event] = pipe.read_by_psrpcore()
        pipeline.start()
        pipe.turn()
        return pipeline, event.pipeline

    def finish(pipeline):
        if pipeline.state == psrpcore.types.PSInvocationState.Running:
            pipeline.complete()
        pipe.turn()
        heard = pipe.heard()
        pipe.frame(b"T", pipeline.pipeline_id)
        pipeline.close()
        return [event["end"] for event in heard if event["event"] == "end"]

    pipeline, request = started("Set-Mailbox", arguments={"Identity": "a", "Languages": ["de", "en"], "Confirm": False})
    [command] = request.commands
    emit("run", command=command.command_text, script=command.is_script, parameters=command.parameters, no_input=request.no_input, nested=request.is_nested,
         states=finish(pipeline))

    # What psrpcore writes comes back as input, whatever it is.
    pipeline, request = started("Echo-Input", input=True)
    wrong = []
    for value in VALUES:
        pipeline.write_output(value)
        pipe.turn()
        pipe.order(pipeline.pipeline_id, "send back")
        back = [event.data for event in pipe.read_by_psrpcore()]
        if len(back) != 1 or back[0] != value or not isinstance(back[0], type(value)):
            wrong.append([repr(value), repr(back)])
    pipe.order(pipeline.pipeline_id, "end input")
    emit("input", wrong=wrong, no_input=request.no_input, outputs=len(pipe.heard("output")), ended=names(pipe.read_by_psrpcore()), states=finish(pipeline))

    pipeline, _ = started("Write-Streams")
    pipeline.write_debug("one debug record")
    pipeline.write_verbose("one verbose record")
    pipeline.write_warning("one warning record")
    pipeline.write_error(NETException("one error record"), fully_qualified_error_id="OneError",
                         category_info=psrpcore.types.ErrorCategoryInfo(Category=psrpcore.types.ErrorCategory.InvalidArgument))
    pipeline.write_information("one information record", "psrpcore", tags=["PSHOST"])
    pipeline.write_progress("Working", 7, "one progress record", current_operation="counting", percent_complete=50, seconds_remaining=9)
    pipeline.write_output("one output")
    pipe.turn()
    emit("streams", records=[{key: value for key, value in event.items() if key != "pipeline"} for event in pipe.heard()])
    failure = psrpcore.types.ErrorRecord(NETException("went wrong"), psrpcore.types.ErrorCategoryInfo(), FullyQualifiedErrorId="ItFailed")
    pipeline._change_state(psrpcore.types.PSInvocationState.Failed, failure)
    pipe.turn()
    [failed] = pipe.heard()
    emit("failed", end=failed["end"], reason=failed["reason"]["text"], id=failed["reason"]["id"])

    pipeline, _ = started("Invoke-HostCall")
    requestor = psrpcore.ServerHostRequestor(pipeline)
    call_id = requestor.read_line()
    requestor.write_line("a line")
    pipe.turn()
    calls = pipe.heard("call")
    pipe.order(pipeline.pipeline_id, "answer", call=calls[0]["call"], method=calls[0]["method"], value="typed here")
    [answer] = pipe.read_by_psrpcore()
    emit("host", ours=[[call["method"], call["answer"], call["parameters"]] for call in calls], value=answer.result, same_call=answer.ci == call_id,
         method=answer.method_identifier.name, states=finish(pipeline))

    pipeline, request = started("Get-Mailbox", nested=True)
    emit("nested", nested=request.is_nested, states=finish(pipeline))

    # A SecureString each way, under the key that psrpcore asks for.
    pool.request_key()
    pipe.turn()
    asked = [event["event"] for event in pipe.heard()]
    pipe.order(None, "send key")
    pipe.read_by_psrpcore()
    pipeline, request = started("Measure-Secret", secret="p@ss w\u00f6rd \U0001f600")
    [(name, secret)] = request.commands[0].parameters
    pipeline.write_output(PSSecureString("p@ss w\u00f6rd"))
    pipe.turn()
    heard = pipe.heard()
    emit("secret", asked=asked, ours=[event["event"] for event in heard], got=secret.decrypt(), sent=heard[-1]["value"], states=finish(pipeline))

    # A stop is the transport's; what the server says of it is ours to read. What comes later counts for nothing.
    pipeline, _ = started("Start-Sleep")
    pipeline.begin_stop()
    pipeline.stop()
    pipe.turn()
    ends = [[event["event"], event["end"]] for event in pipe.heard()]
    pool.prepare_message("late", psrpcore.types.PSRPMessageType.PipelineOutput, pipeline.pipeline_id)
    pipe.turn()
    emit("stop", ends=ends, late=pipe.heard())

    # Nobody here waits for events of the session; they disturb nothing.
    pool.send_event(1, "source", message_data="data")
    pipe.turn()
    pipeline, _ = started("Get-Mailbox")
    pipeline.write_output("after the event")
    pipe.turn()
    emit("event", after=[event["value"] for event in pipe.heard("output")], states=finish(pipeline))

    pool.set_broken(psrpcore.types.ErrorRecord(NETException("the pool broke"), psrpcore.types.ErrorCategoryInfo(), FullyQualifiedErrorId="Broke"))
    pipe.turn()
    [ended] = pipe.heard()
    emit("broken", ours=ended["event"], reason=ended["reason"]["text"])
    pipe.end()


for side, conversation in (("client", psrpcore_is_client), ("server", psrpcore_is_server)):
    conversation()
