"""What ConvertTo-Json of Windows PowerShell 5.1 and of PowerShell 7 writes, and Export-Clixml by way of psrpcore.

    powershell_json.py SOURCE FORM TARGET      SOURCE: JSON Lines of `exops run … -o jsonl`; FORM: 5.1, live, 7, clixml-5.1, clixml-7

An imitation after what both are documented and seen to do, made apart from exops's own readers:
  5.1  times as "\\/Date(ms)\\/", enumerations as numbers, ' < > & as \\u escapes, some lists as {"value": […], "Count": n},
       what lies below the depth as its string form, UTF-16 with a byte order mark (`>` and Out-File)
  live the same of objects that did not travel (Exchange Management Shell): addresses, sizes and spans as their properties
  7    times in ISO 8601, local ones with their offset, enumerations as numbers too, no escapes beyond JSON's, UTF-8
All: the properties that remoting adds. CLIXML is UTF-16 and indented in 5.1, sizes are objects with a string form, and
UTF-8 with a byte order mark in 7 (`-Encoding utf8BOM`).
"""

import datetime
import json
import re
import sys

NUMBERS = {"UserMailbox": 1, "SharedMailbox": 4, "RoomMailbox": 16, "EquipmentMailbox": 32}
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
NOISE = {"PSComputerName": "outlook.office365.com", "RunspaceId": "5b1c0b5e-9f7e-4b0e-8a53-0c1f6a5c0001", "PSShowComputerName": False}


def is_size(value):
    return isinstance(value, str) and re.match(r"^[\d.]+ [KMGT]?B \([\d,]+ bytes\)$", value)


def instant(text):
    text = re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00")
    value = datetime.datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)


def address(text):
    prefix, plain = text.split(":", 1)
    return {"AddressString": plain, "ProxyAddressString": text, "Prefix": {"PrimaryPrefix": prefix.upper()}, "IsPrimaryAddress": prefix.isupper()}


def live(name, value):
    if name == "EmailAddresses":
        return [address(text) for text in value]
    if name == "PrimarySmtpAddress":
        local, domain = value.split("@")
        return {"Length": len(value), "Local": local, "Domain": domain, "Address": value, "IsValidAddress": True}
    if name == "RetainDeletedItemsFor":
        days = int(value.split(".")[0])
        return {"Ticks": days * 864_000_000_000, "Days": days, "TotalDays": float(days)}
    if name == "ProhibitSendQuota":
        return {"IsUnlimited": value == "Unlimited", "Value": None if value == "Unlimited" else value}
    return value


def convert(name, value, form):
    if isinstance(value, str) and TIME.match(value):
        moment = instant(value)
        ms = (moment - EPOCH) // datetime.timedelta(milliseconds=1)
        if form != "7" and name == "WhenCreated":
            return {"value": f"/Date({ms})/", "DisplayHint": 2, "DateTime": moment.strftime("%A, %B %d, %Y %I:%M:%S %p")}
        if form != "7":
            return f"/Date({ms})/"
        local = moment.astimezone(datetime.timezone(datetime.timedelta(hours=2))) if name == "WhenChanged" else moment
        return local.isoformat().replace("+00:00", "Z")
    if name == "RecipientTypeDetails":
        return NUMBERS[value]
    if form == "live":
        return live(name, value)
    if isinstance(value, list) and form == "5.1":
        if name == "EmailAddresses":
            return " ".join(value)
        return {"value": value, "Count": len(value)} if len(value) > 1 else value
    return value


def written(objects, form):
    text = json.dumps([{**{n: convert(n, v, form) for n, v in o.items()}, **NOISE} for o in objects], ensure_ascii=False, indent=4)
    if form == "7":
        return text.encode()
    text = text.replace("/Date(", "\\/Date(").replace(")/\"", ")\\/\"")
    for character in "'<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le")


def clixml(objects, form):
    from psrpcore.types import PSDateTime, PSGuid, PSInt, PSObject, add_note_property, serialize
    import xml.etree.ElementTree as ElementTree

    root = ElementTree.Element("Objs", {"Version": "1.1.0.1", "xmlns": "http://schemas.microsoft.com/powershell/2004/04"})
    for values in objects:
        one = PSObject()
        one.PSObject.type_names = ["Deserialized.Microsoft.Exchange.Data.Directory.Management.Mailbox", "Deserialized.System.Object"]
        for name, value in {**values, **NOISE}.items():
            if isinstance(value, str) and TIME.match(value):
                moment = instant(value)
                value = PSDateTime(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond, moment.tzinfo)
            elif isinstance(value, int) and not isinstance(value, bool):
                value = PSInt(value)
            elif name in ("Guid", "ExchangeGuid"):
                value = PSGuid(value)
            elif is_size(value) and form == "clixml-5.1":
                text, value = value, PSObject()
                value.PSObject.type_names = ["Deserialized.Microsoft.Exchange.Data.ByteQuantifiedSize", "Deserialized.System.ValueType"]
                value.PSObject.to_string = text
            add_note_property(one, name, value)
        root.append(serialize(one, None))
    if form == "clixml-7":
        return ElementTree.tostring(root, encoding="unicode").encode("utf-8-sig")
    ElementTree.indent(root)
    return b"\xff\xfe" + ElementTree.tostring(root, encoding="unicode").replace("\n", "\r\n").encode("utf-16-le")


def main():
    source, form, target = sys.argv[1:]
    with open(source, encoding="utf-8") as lines:
        objects = [json.loads(line) for line in lines if line.strip()]
    with open(target, "wb") as out:
        out.write(clixml(objects, form) if form.startswith("clixml") else written(objects, form))
    print(len(objects), form)


main()
