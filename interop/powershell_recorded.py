"""A PowerShell-shaped client (see shaped.py) against the scripted endpoint, which has the commands that PowerShell was recorded with: every
recording as it was made, with what its commands answer. powershell_recorded.py READY-FILE. Prints one line of JSON a step.
"""

import re

import lab
from shaped import (
    DEBUG, ERROR, INFORMATION, OUTPUT, PROGRESS, TIMED_OUT, VERBOSE, WARNING, Background, Client, bag, calls, check_error, check_fault, check_metadata,
    count, dictionary, encode, failures, need, recorded, replay,
)
from unix_transport import TARGET, basic, bearer, connect, envelope, named, pipeline, read_answer, request, whole

objects = lambda messages: [content for kind, content in messages if kind == OUTPUT]
texts = lambda messages: [None if content is None else content.text for content in objects(messages)]


def failure(messages, kind, category, activity, target):
    """A terminating error is the state's alone, with what a real server writes of it (section 8)."""
    need(count(messages, ERROR) == 0, "a terminating error came as a record as well")
    record = bag(bag(messages[-1][1])["ExceptionAsErrorRecord"])
    found = (record["Exception"].find("TN/T").text.rpartition(".")[2], int(record["ErrorCategory_Category"].text), record["ErrorCategory_Activity"].text or "", record["TargetObject"].text or "")
    need(found == (kind, category, activity, target), "a terminating error:", found)


# 01: two calls of Invoke-Command; Select-Object with the properties that were asked for.
client, commands = replay("01-open-invoke-close.txt")
need([state for _, _, state in commands] == [4, 4], "01")
[first], [second] = (objects(messages) for _, messages, _ in commands)
need(first.find("TN/T").text == "Microsoft.Exchange.Data.Directory.Management.Mailbox" and "Alias" in bag(first), "a live object carries its type")
need(second.find("TN/T").text.startswith("Selected.") and "Alias" in bag(second) and len(bag(second)) < len(bag(first)), "a selection", bag(second).keys())
lab.emit("01", selected=sorted(bag(second)))

# 02: an import whose command the endpoint lacks says so by a count of none. (03 is the lab's: the endpoint has no formats.)
_, commands = replay("02-import-one-command.txt")
[counted] = objects(commands[0][1])
lab.emit("02", states=[state for _, _, state in commands], counted=bag(counted)["Count"].text, failed=failures(commands[1][1]))

# 04: what a proxy and Invoke-Command write, by value.
_, commands = replay("04-proxy-parameters.txt")
names = check_metadata(objects(commands[0][1]), ["Set-Thing"])
need(all(state == 4 for _, _, state in commands) and names == ["Set-Thing"], "04", [state for _, _, state in commands], names)


def plain(element):
    """A bound value as JSON has it."""
    if element.find("LST") is not None:
        return [plain(item) for item in element.findall("LST/*")]
    if element.find("DCT") is not None:
        return {key: plain(value) for key, value in dictionary(element).items()}
    inner = next((child for child in element if child.tag not in ("TN", "TNRef", "ToString", "Props", "MS")), None)
    return plain(inner) if inner is not None else f"{element.tag} {element.text}" if element.text else element.tag


lab.emit("04", bound=[{name: plain(value) for name, value in bag(objects(messages)[0]).items()} for _, messages, _ in commands[1:]])

# 05: an object, null and a text into a pipeline, and back: null has no body.
_, commands = replay("05-pipeline-input.txt")
back = objects(commands[1][1])
lab.emit("05", states=[state for _, _, state in commands], first=bag(back[0])["Identity"].text, null=back[1] is None, last=back[2].text, types=[name.text for name in back[0].findall("TN/T")])

# 06: every stream; an error with all that one may have; 2>&1; unknown; a script.
_, commands = replay("06-streams-and-errors.txt")
streams, rich, merged, unknown, script = (messages for _, messages, _ in commands)
need([state for _, _, state in commands] == [4, 4, 4, 5, 5], "06", [state for _, _, state in commands])
kinds = [kind for kind, _ in streams]
need([method for method, id, _ in calls(streams)] == [19, 21, 22, 20] and all(id == -100 for _, id, _ in calls(streams)), "06: what is shown", calls(streams))
information = bag(next(content for kind, content in streams if kind == INFORMATION))
need([information[name].tag for name in ("TimeGenerated", "ProcessId", "NativeThreadId", "ManagedThreadId")] == ["DT", "U32", "U32", "U32"], "information")
record = check_error(next(content for kind, content in rich if kind == ERROR))
need(record["Exception"].find("TN/T").text.endswith("ManagementObjectNotFoundException") and record["TargetObject"].text == "tgt", "06: the error's type")
check_error(objects(merged)[0])
failure(unknown, "CommandNotFoundException", 13, "", "Get-NoSuch")
failure(script, "ParseException", 17, "", "")
lab.emit(
    "06", counts=[kinds.count(kind) for kind in (DEBUG, VERBOSE, WARNING, INFORMATION, PROGRESS, ERROR, OUTPUT)], details=record["ErrorDetails_Message"].text,
    action=record["ErrorDetails_RecommendedAction"].text, activity=record["ErrorCategory_Activity"].text, shown=[text for _, _, text in calls(rich)],
    merged=[count(merged, OUTPUT), count(merged, ERROR)], failed=failures(unknown) + failures(script),
)

# 07: a stop while the Receive is open.
_, commands = replay("07-stop.txt")
[(_, messages, state)] = commands
record = bag(bag(messages[-1][1])["ExceptionAsErrorRecord"])
lab.emit("07", state=state, id=record["FullyQualifiedErrorId"].text, category=record["ErrorCategory_Category"].text, kind=record["Exception"].find("TN/T").text)

# 08: questions on the host and their answers, in the recorded order, which has the key before the first secret answer. The server asks for it.
client, commands = replay("08-host-calls-and-key.txt")
asked = [[(method, id != -100) for method, id, _ in calls(messages)] for _, messages, _ in commands]
lab.emit(
    "08", states=[state for _, _, state in commands], asked=asked, key_requests=client.key_requests, line=texts(commands[0][1]), secure=texts(commands[1][1]),
    choice=texts(commands[2][1]), prompt=plain(objects(commands[3][1])[0]), credential=[bag(objects(commands[4][1])[0])[name].text for name in ("UserName", "Password")],
)

# 09: ExtraCmds has all statements, Cmds repeats the first: each runs once and in order. Leaving is a host call that wants no answer.
_, commands = replay("09-enter-session.txt")
names = check_metadata(objects(commands[0][1]), ["Out-Default", "Exit-PSSession"])
several = next(messages for body, messages, _ in commands if body.count('<S N="Cmd">Set-Thing') > 1)
leaving = next((messages, state) for body, messages, state in commands if '<S N="Cmd">Exit-PSSession' in body)
lab.emit("09", written=[[method, text.strip()] for method, _, text in calls(several)], output=count(several, OUTPUT), leaving=[calls(leaving[0]), leaving[1]])

# Secrets to the server and back, in every form (section 9); a server that has to write one asks for the key where there is none yet.
client = Client()
command, messages = client.run(pipeline("Get-Secret"))
need(client.key_requests == 1 and client.has_key.is_set(), "the key was not asked for")
got = [client.clear(item) for item in objects(messages)]
value = lambda name, xml: (f'<S N="N">-{name}:</S>', xml.replace(">", ' N="V">', 1))
command, measured = client.run(pipeline("Measure-Secret", value("Secret", client.secure("p@ss w\u00f6rd"))))
credential = '<Obj RefId="95"><TN RefId="95"><T>System.Management.Automation.PSCredential</T><T>System.Object</T></TN><ToString>System.Management.Automation.PSCredential</ToString><Props><S N="UserName">bob</S>' + client.secure("hidden", ' N="Password"') + "</Props></Obj>"
command, given_back = client.run(pipeline("Set-Thing", value("Table", credential)))
inner = bag(bag(objects(given_back)[0])["Table"])
lab.emit("secrets", got=got, measured=texts(measured), credential=[inner["UserName"].text, client.clear(inner["Password"])], requests=client.key_requests)

# Of section 6: what else a value may be, each as it came.
enum = '<Obj RefId="96"><TN RefId="96"><T>System.DayOfWeek</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T></TN><ToString>Friday</ToString><I32>5</I32></Obj>'
many = f'<Obj RefId="97"><LST>{enum}<TS>P1DT2H</TS><URI>https://contoso.com/a?b=c</URI><G>7f2e3d5e-0f54-4a5e-9c5d-9e5f2f6f8a11</G><Version>1.2.3</Version><By>7</By><C>65</C><D>1.20</D><Nil /></LST></Obj>'
command, messages = client.run(pipeline("Set-Thing", value("List", many)))
lab.emit("values", back=plain(bag(objects(messages)[0])["List"]))

# Section 3: an argument of 250,000 characters is one fragment of a Command of 338 kB.
long = "x" * 250_000
command, messages = client.run(pipeline("Echo-Value", value("Value", f"<S>{long}</S>")))
need(texts(messages) == [long], "the long argument")

# Input while its command's Receive is open, one Send an object, the end with the last.
command, messages = client.run(pipeline("Echo-Input").replace('<B N="NoInput">true</B>', '<B N="NoInput">false</B>'), ["<S>a</S>", "", "<I32>3</I32>"])
lab.emit("input", back=texts(messages))

# Section 1: a 401 to a Command is that command's alone.
body = next(body for action, _, _, body in recorded("07-stop.txt") if action == "Command")
refused = request("Command", encode(body), client.shell, token=bearer[:-6] + "AAAAAA")
command, messages = client.run(pipeline("Get-Mailbox", *named("ResultSize", "<I32>2</I32>")))
lab.emit("a token that is none", status=refused.status, after=[client.states[command], count(messages, OUTPUT)])

# 10: a command that takes longer than its Receives may wait: they end in the same fault, on the session and on the command, and then it has its result.
wanted = lambda command=None: envelope("Receive", client.receive(command), client.shell).replace("PT3M", "PT0.5S")


def ask(content):
    with connect() as stream:
        whole(stream, TARGET, content, basic())
        return read_answer(stream)


body = [body for action, _, _, body in recorded("10-faults.txt") if action == "Command"][0]
command = re.search(r'CommandId="([^"]+)"', body)[1]
shell = next(shell for action, shell, _, _ in recorded("10-faults.txt") if action == "Command")
body = body.replace(shell.lower(), client.shell.lower())
need(request("Command", encode(body), client.shell).status == 200, "10: Command")
silent = 0
while command not in client.states:
    answer = ask(wanted(command))
    if answer.status != 200:
        check_fault(answer, TIMED_OUT, "Receiver", "w:TimedOut")
        silent += 1
    client.read(answer)
client.following[command] = Background(client.follow, command)
client.finish(command)
lab.emit("10", silent=silent, output=texts(client.got[command]), state=client.states[command])
client.close()
