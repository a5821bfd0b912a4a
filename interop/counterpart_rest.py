"""A plain HTTP client drives the REST admin API: pages, an error, a call without a token.

Uses http.client of the standard library for everything but the token. Prints one line of JSON a step.
"""

import http.client
import json
import ssl
import urllib.parse

import lab

given = lab.arguments()
bearer = lab.token(given)
url = urllib.parse.urlsplit(given.lab["admin_api"])
# One connection for all: a server that ends it, or that leaves bytes of an answer behind, shows here.
server = http.client.HTTPSConnection(url.hostname, url.port, context=ssl.create_default_context(cafile=given.lab["ca_file"]), timeout=60)


def post(target, cmdlet, parameters, authorization=f"Bearer {bearer}", **headers):
    body = json.dumps({"CmdletInput": {"CmdletName": cmdlet, "Parameters": parameters}})
    sent = {"Content-Type": "application/json", "X-AnchorMailbox": f"APP:SystemMailbox{{bb558c35-97f1-4cb9-8ff7-d53741dc928c}}@{given.lab['tenant_id']}", **headers}
    if authorization:
        sent["Authorization"] = authorization
    server.request("POST", target, body, sent)
    answer = server.getresponse()
    raw = answer.read()
    text = raw.strip(b"\0 \r\n")
    return answer, json.loads(text) if text.startswith(b"{") else {}


path = f"/adminapi/beta/{given.lab['tenant_id']}/InvokeCommand"

# Pages: every object once, the pages as large as asked for, a link on all but the last.
sizes, names, target = [], [], path
while target:
    answer, page = post(target, "Get-Mailbox", {"ResultSize": "Unlimited"}, Prefer="odata.maxpagesize=40")
    if answer.status != 200:
        lab.emit("page", status=answer.status, body=page)
        raise SystemExit(1)
    sizes.append(len(page["value"]))
    names += [item["PrimarySmtpAddress"] for item in page["value"]]
    link = page.get("@odata.nextLink")
    target = urllib.parse.urlsplit(link)._replace(scheme="", netloc="").geturl() if link else None
lab.emit("pages", sizes=sizes, objects=len(names), distinct=len(set(names)), warnings=page.get("@adminapi.warnings"))

answer, page = post(path, "Get-Mailbox", {"ResultSize": 3})
lab.emit("first", status=answer.status, mark=answer.headers.get("X-Exops-Lab"), content_type=answer.headers.get("Content-Type"),
         request_id=answer.headers.get("request-id"), objects=page["value"], warnings=page.get("@adminapi.warnings"), keys=sorted(page))

answer, page = post(path, "Get-Mailbox", {"Identity": "nobody-has-this-name"})
lab.emit("not found", status=answer.status, error=page.get("error"), exception=answer.headers.get("x-ExceptionType"))
answer, page = post(path, "Get-Mailbox", {"NoSuchParameter": "x"})
lab.emit("unknown parameter", status=answer.status, error=page.get("error"))
answer, page = post(path, "Get-NoSuchThing", {})
lab.emit("unknown cmdlet", status=answer.status)
answer, page = post(path, "Get-Mailbox", {}, authorization=None)
lab.emit("no token", status=answer.status, challenge=answer.headers.get("WWW-Authenticate"))
answer, page = post(path, "Get-Mailbox", {}, authorization=f"Bearer {bearer[:-6]}AAAAAA")
lab.emit("bad token", status=answer.status)
answer, page = post(path.replace("beta", "v1.0"), "Get-Mailbox", {})
lab.emit("v1.0", status=answer.status)
