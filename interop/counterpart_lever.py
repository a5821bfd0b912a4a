"""The lab's lever that makes a token good for so many requests, pulled by plain HTTP. Prints one line of JSON a step."""

import json
import os

import lab

given = lab.arguments()
first, second = lab.token(given), lab.token(given)
rest = lab.Rest(given, first)
with open(os.path.join(os.path.dirname(given.ready), "bootstrap.json"), encoding="utf-8") as file:
    own = json.load(file)["token"]


def pull(body, token=own):
    rest.server.request("POST", "/exops-lab/v1/levers", body, {"Content-Type": "application/json", "Authorization": f"Bearer {token}"})
    answer = rest.server.getresponse()
    answer.read()
    return answer.status


def call(token):
    return rest.post("Get-AcceptedDomain", {}, Authorization=f"Bearer {token}")[0].status


lab.emit("stranger", status=pull('{"token_requests": 2}', first))
lab.emit("wrong", statuses=[pull(body) for body in ("", "[]", '{"token_requests": 0}', '{"token_requests": -1}', '{"no_such_lever": 1}')])
lab.emit("before", statuses=[call(first) for _ in range(3)])
lab.emit("pulled", status=pull('{"token_requests": 2}'), statuses=[call(first) for _ in range(3)] + [call(second), call(first)])
try:
    with lab.pool(given, lab.token(given)) as session:
        lab.run(session, "Get-AcceptedDomain")
    lab.emit("session", refused=None)
except Exception as error:  # pypsrp has several for a 401
    lab.emit("session", refused=type(error).__name__)
lab.emit("lifted", status=pull('{"token_requests": null}'), statuses=[call(first), call(second)])
