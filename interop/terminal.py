"""Runs a program at a pseudo-terminal and types to it. Standard library only.

The argument is JSON: {"command": [...], "environment": {...}, "output": FILE or null, "type": [[WAIT FOR, TYPE], ...]}; with
"output" standard output goes into that file, the rest stays the terminal. What follows the word "Password" is typed when the terminal
does not show it, as a person would be slow enough for. Instead of text TYPE can be {"signal": NAME}, or {"resume": true}, which
waits until the program is stopped and lets it go on. Prints JSON: {"code", "screen", "untyped", "echo": [...]}: a program that
ended by a signal has the code -signal; "echo" says whether the terminal shows what is typed, at every stop and at the end.
"""

import json
import os
import pty
import select
import signal
import sys
import termios
import time

PATIENCE = 60

given = json.loads(sys.argv[1])
process, terminal = pty.fork()
if process == 0:
    if given["output"]:
        os.dup2(os.open(given["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.execvpe(given["command"][0], given["command"], given["environment"])

screen = b""
seen = 0
steps = [(wait.encode(), text) for wait, text in given["type"]]
echo = []


def shows():
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def type_to_it(text):
    if isinstance(text, str):
        os.write(terminal, text.encode())
    elif "signal" in text:
        os.kill(process, getattr(signal, "SIG" + text["signal"]))
    else:
        os.waitpid(process, os.WUNTRACED)
        echo.append(shows())
        os.kill(process, signal.SIGCONT)


deadline = time.monotonic() + PATIENCE
signal.alarm(2 * PATIENCE)
while True:
    if steps and steps[0][0] in screen[seen:]:
        seen = screen.index(steps[0][0], seen) + len(steps[0][0])
        wait, text = steps.pop(0)
        while b"Password" in wait and shows() and time.monotonic() < deadline:
            time.sleep(0.01)
        type_to_it(text)
        continue
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        os.kill(process, 9)
        break
    try:
        data = os.read(terminal, 65536)
    except OSError:
        break
    if not data:
        break
    screen += data
_, status = os.waitpid(process, 0)
echo.append(shows())
code = os.waitstatus_to_exitcode(status)
print(json.dumps({"code": code, "screen": screen.decode("utf-8", "replace"), "untyped": len(steps), "echo": echo}))
