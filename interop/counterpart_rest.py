"""A plain HTTP client drives the REST admin API: pages, an error, a call without a token.

Prints one line of JSON a step.
"""

import gzip
import json
import urllib.parse

import lab

given = lab.arguments()
bearer = lab.token(given)
rest = lab.Rest(given, bearer)

# Pages: every object once, the pages as large as asked for, a link on all but the last.
sizes, names, target = [], [], rest.path
while target:
    answer, page = rest.post("Get-Mailbox", {"ResultSize": "Unlimited"}, target, Prefer="odata.maxpagesize=40")
    if answer.status != 200:
        lab.emit("page", status=answer.status, body=page)
        raise SystemExit(1)
    sizes.append(len(page["value"]))
    names += [item["PrimarySmtpAddress"] for item in page["value"]]
    link = page.get("@odata.nextLink")
    target = urllib.parse.urlsplit(link)._replace(scheme="", netloc="").geturl() if link else None
lab.emit("pages", sizes=sizes, objects=len(names), distinct=len(set(names)), warnings=page.get("@adminapi.warnings"))

answer, page = rest.post("Get-Mailbox", {"ResultSize": 3})
lab.emit("first", status=answer.status, mark=answer.headers.get("X-Exops-Lab"), content_type=answer.headers.get("Content-Type"),
         request_id=answer.headers.get("request-id"), objects=page["value"], warnings=page.get("@adminapi.warnings"), keys=sorted(page))

answer, page = rest.post("Get-Mailbox", {"Identity": "nobody-has-this-name"})
lab.emit("not found", status=answer.status, error=page.get("error"), exception=answer.headers.get("x-ExceptionType"))
answer, page = rest.post("Get-Mailbox", {"NoSuchParameter": "x"})
lab.emit("unknown parameter", status=answer.status, error=page.get("error"))
answer, page = rest.post("Get-NoSuchThing", {})
lab.emit("unknown cmdlet", status=answer.status)
answer, page = rest.post("Get-Mailbox", {}, Authorization=None)
lab.emit("no token", status=answer.status, challenge=answer.headers.get("WWW-Authenticate"))
answer, page = rest.post("Get-Mailbox", {}, Authorization=f"Bearer {bearer[:-6]}AAAAAA")
lab.emit("bad token", status=answer.status)
answer, page = rest.post("Get-Mailbox", {}, rest.path.replace("beta", "v1.0"))
lab.emit("v1.0", status=answer.status)
# Preferences that come as headers; one in the body wins.
for name, parameters, headers in (
    ("no warning", {"ResultSize": 1}, {"WarningAction": "SilentlyContinue"}),
    ("a warning", {"ResultSize": 1, "WarningAction": "Continue"}, {"WarningAction": "SilentlyContinue"}),
    ("empty", {"ResultSize": 1}, {"WarningAction": ""}),
    ("no error", {"Identity": "nobody-has-this-name"}, {"ErrorAction": "SilentlyContinue"}),
):
    answer, page = rest.post("Get-Mailbox", parameters, **headers)
    lab.emit(name, status=answer.status, warnings=len(page["@adminapi.warnings"]), objects=len(page["value"]))
# Answers packed for those who ask, of every length; a link leads on all the same, and what was packed is what comes plain.
for size, wish in ((1, "gzip"), (40, "gzip"), (1000, "deflate, gzip;q=0.5"), (40, "gzip;q=0"), (40, "identity")):
    call = json.dumps({"CmdletInput": {"CmdletName": "Get-Mailbox", "Parameters": {"ResultSize": "Unlimited"}}})
    bodies, target, packed, lengths, total = [], rest.path, [], [], 0
    while target:
        rest.server.request("POST", target, call, {**rest.headers, "Accept-Encoding": wish, "Prefer": f"odata.maxpagesize={size}"})
        answer = rest.server.getresponse()
        body = answer.read()
        packed.append(answer.headers.get("Content-Encoding"))
        lengths.append(answer.headers.get("Content-Length"))
        total += len(body)
        page = json.loads(gzip.decompress(body) if packed[-1] else body)
        bodies += page["value"]
        link = page.get("@odata.nextLink") if len(packed) < 4 else None
        target = urllib.parse.urlsplit(link)._replace(scheme="", netloc="").geturl() if link else None
    lab.emit(f"{wish} {size}", packed=sorted(set(map(str, packed))), pages=len(packed), bytes=total, objects=len(bodies),
             names=[item["Name"] for item in bodies], lengths=sorted(set(length is not None for length in lengths)))
