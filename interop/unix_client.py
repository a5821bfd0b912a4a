"""A remote PowerShell client in the habits of PowerShell 7 on Linux, from sockets up; only the token comes through msal.

A TCP and TLS connection for every request, several handshakes begun and finished in any order, Basic unasked, ';PSVersion=' behind the
query, prefixes that change their namespace within an envelope, a time-out of three minutes. Whatever such a client needs is looked at:
the length of every answer, action and message of every fault, no answer that waits when it should not. Prints one line of JSON a step.
"""

import time
import uuid

import lab
from unix_transport import SHELL, Session, bearer, dial, given, named, pipeline, request, tls, url

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
