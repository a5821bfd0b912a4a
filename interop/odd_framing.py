"""Ways to write the same requests that a client or a proxy on the way may choose: XML forms of the envelope, HTTP forms of the message.

Each row of FORMS is used for a whole session: Create, Receive, Command, Receive to the end, terminate, Delete. Each row of REFUSED is one
request that must be answered with this status or fault, and the connection's next user must not notice. Prints one line of JSON a row.
"""

import re
import xml.etree.ElementTree as tree

import lab
from unix_transport import SHELL, TARGET, Session, basic, connect, envelope, given, head, headers, named, pipeline, read_answer, url, whole

SOAP = "http://www.w3.org/2003/05/soap-envelope"
XML = "http://www.w3.org/XML/1998/namespace"


def attribute(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def written(content, opening, text=lambda t: attribute(t), backwards=False, gap=""):
    """The envelope written anew: `opening(namespace, depth)` answers an element's prefix and what declares it."""

    def element(node, depth):
        space, _, name = node.tag[1:].partition("}")
        prefix, declared = opening(space, depth)
        attributes = [f'{prefix_of}{key}="{attribute(value)}"' for prefix_of, key, value, _ in map(attributed, node.items())]
        attributes += sorted({f'xmlns:q="{SOAP}"' for _, _, _, soap in map(attributed, node.items()) if soap} | set(declared))
        start = " ".join([prefix + name, *(reversed(attributes) if backwards else attributes)])
        inner = gap.join([text((node.text or "").strip()), *(element(child, depth + 1) for child in node), ""])
        return f"<{start}>{inner}</{prefix}{name}>"

    def attributed(pair):
        space, _, name = pair[0].rpartition("}")
        return {"": "", "{" + XML: "xml:", "{" + SOAP: "q:"}[space], name, pair[1], space == "{" + SOAP

    return element(tree.fromstring(content), 0)


def default_namespace(space, depth):
    return "", [f'xmlns="{space}"']


def one_prefix(space, depth):
    return "ns0:", [f'xmlns:ns0="{space}"']


def odd_prefix(space, depth):
    name = f"_{'é' * (depth + 1)}.{depth}-x"
    return f"{name}:", [f'xmlns:{name}="{space}"', 'xmlns:s="urn:nothing"', 'xmlns="urn:nothing-either"']


def references(text):
    return "".join(f"&#x{ord(c):x};" if c in "hA/" else attribute(c) for c in text)


def sections(text):
    """CDATA in three pieces: a section, plain characters, a section."""
    third = len(text) // 3
    return f"<![CDATA[{text[:third]}]]>{attribute(text[third : 2 * third])}<![CDATA[{text[2 * third :]}]]>" if text else ""


def between(what):
    return lambda content: re.sub(r"><", f">{what}<", content)


def more_headers(content):
    extra = (
        '<u:Trace xmlns:u="urn:unknown" s:mustUnderstand="false"><u:Deep><u:Deeper/></u:Deep></u:Trace><Plain xmlns="">x</Plain>'
        '<u:Other xmlns:u="urn:unknown" s:mustUnderstand="0"/><p:SessionId s:mustUnderstand="false">uuid:1A6F9F3A-3B0C-4E3E-A9D0-6C3A0AF0BB01</p:SessionId>'
        '<p:ActivityId s:mustUnderstand="false">1A6F9F3A-3B0C-4E3E-A9D0-6C3A0AF0BB01</p:ActivityId>'
    )
    return content.replace("</s:Header>", extra + "</s:Header>").replace("</p:Shell>", '<u:New xmlns:u="urn:unknown">1</u:New></p:Shell>')


def headers_backwards(content):
    start, middle, end = re.match(r"(?s)(.*<s:Header>)(.*)(</s:Header>.*)", content).groups()
    parts = re.findall(r"(?s)<(\w+:\w+)(?:[^>]*/>|.*?</\1>)", middle)
    found = [m[0] for m in re.finditer(r"(?s)<(\w+:\w+)(?:[^>]*/>|.*?</\1>)", middle)]
    assert len(parts) == len(found) and "".join(found) == middle
    return start + "".join(reversed(found)) + end


# How the envelope is written.
ENVELOPES = {
    "comments": between("<!-- <s:Body> --><!---->"),
    "comments in text": lambda content: re.sub(r">([^<>]{4})([^<>]+)<", r"><!--a-->\1<!-- b -->\2<!--c--><", content),
    "blanks": between("\r\n\t  "),
    "blanks around text": lambda content: re.sub(r">([^<>]+)</(?!w:Option>)", r">" + "\n  " + r"\1" + "\n" + r"</", content),
    "lines of base64": lambda content: re.sub(r">([A-Za-z0-9+/=]{90,})<", lambda m: ">" + "\r\n".join(re.findall(".{1,76}", m[1])) + "<", content),
    "single quotes": lambda content: content.replace('"', "'"),
    "blanks in tags": lambda content: re.sub(r"(</?[\w:]+)((?:\s[^>]*?)?)(/?)>", lambda m: m[1] + m[2].replace('="', ' \n = "') + "\n" + m[3] + ">", content).replace("</s:Envelope\n>", "</s:Envelope >"),
    "headers backwards": headers_backwards,
    "unknown headers": more_headers,
    "declaration": lambda content: "\ufeff<?xml version='1.0' encoding=\"UTF-8\" standalone='yes'?>\n<!-- before -->" + content + "\n<!-- after -->\n",
    "default namespaces": lambda content: written(content, default_namespace),
    "one prefix for all": lambda content: written(content, one_prefix, gap="\n"),
    "odd prefixes": lambda content: written(content, odd_prefix),
    "attributes backwards": lambda content: written(content, one_prefix, backwards=True),
    "character references": lambda content: written(content, one_prefix, text=references),
    "sections": lambda content: written(content, default_namespace, text=sections),
}


def chunked(size, extension="", trailer=""):
    def send(stream, target, content, authorization):
        data = content.encode()
        fields = headers(len(data), authorization)
        del fields["Content-Length"]
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        body = b"".join(f"{len(piece):X}{extension}\r\n".encode() + piece + b"\r\n" for piece in pieces)
        stream.sendall(head(target, {**fields, "Transfer-Encoding": "chunked"}) + body + f"0\r\n{trailer}\r\n".encode())

    return send


def expecting(stream, target, content, authorization):
    data = content.encode()
    stream.sendall(head(target, {**headers(len(data), authorization), "Expect": "100-continue"}))
    interim = b""
    while not interim.endswith(b"\r\n\r\n"):
        interim += stream.recv(1)
    assert interim.startswith(b"HTTP/1.1 100 "), interim
    stream.sendall(data)


def in_pieces(stream, target, content, authorization):
    data = content.encode()
    start = head(target, headers(len(data), authorization))
    for at in range(0, len(start), 97):
        stream.sendall(start[at : at + 97])
    for at in range(0, len(data), 997):
        stream.sendall(data[at : at + 997])


def with_headers(first="POST {} HTTP/1.1", name=str, **changed):
    def send(stream, target, content, authorization):
        data = content.encode()
        fields = {**headers(len(data), authorization), **{key.replace("_", "-"): value for key, value in changed.items()}}
        stream.sendall(head(target, {name(key): value for key, value in fields.items()}, first) + data)

    return send


# How the HTTP message is sent.
MESSAGES = {
    "chunked": chunked(1000),
    "small chunks": chunked(3, ";name=\"a b\"", "X-Trailer: 1\r\n"),
    "expecting 100": expecting,
    "in pieces": in_pieces,
    "lower case": with_headers(name=str.lower),
    "upper case": with_headers(name=str.upper),
    "absolute target": with_headers(first=f"POST https://{url.netloc}{{}} HTTP/1.1"),
    "HTTP/1.0": with_headers(first="POST {} HTTP/1.0", Connection="close"),
    "closing": with_headers(Connection="close"),
    "no charset": with_headers(Content_Type="application/soap+xml"),
    "quoted charset": with_headers(Content_Type='Application/SOAP+xml ; charset="utf-8"; action="urn:x"'),
    "bearer": with_headers(Authorization="bearer " + lab.token(given)),
    "extra headers": with_headers(User_Agent="Microsoft WinRM Client", Accept_Encoding="gzip, deflate", Cookie="a=b; c=\"d\"", Accept="*/*", X_Nothing=""),
}


def session(change=str, send=whole, same=False):
    """A whole session in one form: state and number of outputs."""
    kept = connect() if same else None

    def ask(action, body, shell=None, options=""):
        stream = kept or connect()
        send(stream, TARGET, change(envelope(action, body, shell, options)), basic())
        answer = read_answer(stream)
        if not same:
            stream.close()
        return answer

    opened = Session(ask)
    if opened.created.status != 200:
        return {"create": opened.created.status, "text": opened.created.text[:600]}
    kinds = []
    while 0x00021005 not in kinds:
        kinds += opened.messages(opened.receive())
    command, answer = opened.command(pipeline("Get-Mailbox", *named("Identity", f"<S>{given.identity}</S>")))
    if answer.status != 200:
        return {"command": answer.status, "text": answer.text[:600]}
    kinds, _ = opened.drain(command)
    ended = [opened.signal(command, f"{SHELL}/signal/terminate").status, opened.send("Delete", "").status]
    if kept:
        kept.close()
    return {"output": kinds.count(0x00041004), "state": opened.states[command], "ended": ended}


for name, change in ENVELOPES.items():
    lab.emit(name, **session(change=change))
for name, send in MESSAGES.items():
    lab.emit(name, **session(send=send))
lab.emit("one connection", **session(same=True))
lab.emit("chunked on one connection", **session(send=chunked(500), same=True))

# What is refused, and how.
nowhere = "11111111-1111-1111-1111-111111111111"
plain = envelope("Receive", f'<p:Receive xmlns:p="{SHELL}"><p:DesiredStream>stdout</p:DesiredStream></p:Receive>', nowhere)


def message(content=plain, fields=None, drop=(), first="POST {} HTTP/1.1"):
    data = content if isinstance(content, bytes) else content.encode()
    all_fields = {**headers(len(data), basic()), **(fields or {})}
    return head(TARGET, {name: value for name, value in all_fields.items() if name not in drop}, first) + data


REFUSED = {
    # The way in: whatever is offered first, the answer names Basic and the connection can be used for it.
    "no credentials": message(drop=["Authorization"]),
    "empty probe": message("", drop=["Authorization"]),
    "empty credentials": message(fields={"Authorization": ""}),
    "scheme alone": message(fields={"Authorization": "Basic"}),
    "negotiate": message("", fields={"Authorization": "Negotiate TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGNFAAAADw=="}),
    "kerberos with body": message(fields={"Authorization": "Kerberos YIIB"}),
    "large without credentials": message("x" * 400_000, drop=["Authorization"]),
    "expecting without credentials": message("", fields={"Expect": "100-continue", "Content-Length": "5"}, drop=["Authorization"]),
    # What is wrong with the message.
    "empty body": message(""),
    "get": message("", first="GET {} HTTP/1.1"),
    "no type": message(drop=["Content-Type"]),
    "another type": message(fields={"Content-Type": "text/xml"}),
    "too large": message("x" * 2_200_000),
    "two lengths": message(fields={"Content-Length": "5", "content-length": "6"}),
    # What is wrong with the envelope.
    "sixteen bits": message(b"\xff\xfe" + plain.encode("utf-16-le"), fields={"Content-Type": "application/soap+xml;charset=UTF-16"}),
    "must be understood": message(plain.replace("</s:Header>", '<u:New xmlns:u="urn:unknown" s:mustUnderstand="true"/></s:Header>')),
    "must be understood 1": message(plain.replace("</s:Header>", '<u:New xmlns:u="urn:unknown" s:mustUnderstand=" 1 "/></s:Header>')),
    "document type": message("<!DOCTYPE a [<!ENTITY b 'c'>]>" + plain),
    "undeclared prefix": message(plain.replace("p:DesiredStream", "zz:DesiredStream")),
    "another SOAP": message(plain.replace(SOAP, "http://schemas.xmlsoap.org/soap/envelope/")),
    "cut off": message(plain[:-20]),
    "twice": message(plain + plain),
}
for name, raw in REFUSED.items():
    with connect() as stream:
        stream.settimeout(20)
        stream.sendall(raw)
        answer = read_answer(stream)
        again = None
        if "close" not in answer.headers.get("connection", ""):
            stream.sendall(message())
            again = read_answer(stream).fault()
    lab.emit(name, status=answer.status, fault=answer.fault(), basic="Basic" in answer.headers.get("www-authenticate", ""), again=again)
