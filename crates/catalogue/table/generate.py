#!/usr/bin/env python3
"""Makes `cmdlets.txt` from the two reference files of a data folder.

    python3 generate.py DATA_FOLDER > cmdlets.txt

`session_cmdlets_2024.json` says which cmdlets and parameters one recorded session offered, with sets, positions,
validators and impact. `cmdlets.json` (the reference documentation) gives the Exchange types and the aliases, which a
session flattens away. The form of a line is explained in the head of the table.
"""

import json
import os
import re
import sys

HEAD = """\
# Cmdlets of one recorded Exchange Online session (August 2024), made by generate.py. One line a cmdlet, sorted without case:
#   Name|impact|default set|parameters
# impact: - none, M medium, H high; with an impact the cmdlet has -WhatIf and -Confirm. Common parameters are not listed.
# parameter: Name:kind[Type][~alias,alias][@sets/flags+sets/flags][#check;check]
#   kind: s switch, b boolean, i Int32, u UInt32, t text, l list of text, g Guid, d DateTime, p TimeSpan, y bytes,
#         x secure string, c credential, h hashtable, a anything. Type: the documented one where the kind does not say it.
#   sets: names, * for all; absent is all without flags. flags: m mandatory, digit position, v pipeline, n pipeline by property name.
#   check: e not null or empty, n not null, lMIN-MAX length, rMIN-MAX range, cMIN-MAX count, sA,B one of, N null allowed, C empty list allowed
"""

# Type in the session -> kind and the type name that the kind implies.
KINDS = {
    "switch": ("s", "SwitchParameter"),
    "bool": ("b", "Boolean"),
    "int": ("i", "Int32"),
    "uint": ("u", "UInt32"),
    "string": ("t", "String"),
    "string[]": ("l", "String[]"),
    "guid": ("g", "Guid"),
    "datetime": ("d", "DateTime"),
    "timespan": ("p", "TimeSpan"),
    "byte[]": ("y", "Byte[]"),
    "securestring": ("x", "SecureString"),
    "pscredential": ("c", "PSCredential"),
    "hashtable": ("h", "Hashtable"),
}
# Types that are text on the wire and have no kind of their own.
TEXT = {"uri": "Uri", "version": "Version", "cultureinfo": "CultureInfo", "System.Globalization.RegionInfo": "RegionInfo"}
ANY = {"object": "Object", "System.Object[]": "Object[]", "ushort": "UInt16", "long": "Int64", "hashtable[]": "Hashtable[]"}


def check(text):
    plain = {"ValidateNotNullOrEmpty": "e", "ValidateNotNull": "n", "AllowNull": "N", "AllowEmptyCollection": "C"}
    if text in plain:
        return plain[text]
    name, arguments = re.fullmatch(r"Validate(\w+)\((.*)\)", text).groups()
    if name == "Set":
        return "s" + ",".join(re.findall(r"'([^']*)'", arguments))
    low, high = (part.strip() for part in arguments.split(","))
    return {"Length": "l", "Range": "r", "Count": "c"}[name] + f"{low}-{high}"


def groups(sets):
    by_flags = {}
    for name, flags in sorted(sets.items()):
        key = ("m" if flags.get("m") else "") + str(flags.get("pos", ""))
        key += ("v" if flags.get("vp") else "") + ("n" if flags.get("vpn") else "")
        by_flags.setdefault(key, []).append("*" if name == "__All" else name)
    if list(by_flags.items()) == [("", ["*"])]:
        return ""
    parts = (",".join(names) + ("/" + flags if flags else "") for flags, names in by_flags.items())
    return "@" + "+".join(parts) if by_flags else ""


def parameter(name, row, documented):
    session_type = row["type"]
    told = re.sub(r"[<>_]", "", documented["type"]).split(".")[-1] if documented else None
    if session_type in KINDS:
        kind, implied = KINDS[session_type]
        told = None if session_type in ("switch", "bool") else told
    elif session_type in TEXT:
        kind, implied = "t", "String"
        told = told or TEXT[session_type]
    else:
        kind, implied = "a", "Object"
        told = told or ANY.get(session_type, session_type.split(".")[-1])
    aliases = [a for a in row.get("alias", []) + (documented or {}).get("aliases", []) if re.fullmatch(r"\w+", a)]
    text = f"{name}:{kind}" + (told if told and told != implied else "")
    # The documentation lists a type as an alias in two places.
    aliases = [a for a in dict.fromkeys(aliases) if a != told and a != "MultiValuedProperty"]
    if aliases:
        text += "~" + ",".join(aliases)
    text += groups(row.get("sets", {}))
    checks = [check(c) for c in row.get("validate", [])]
    return text + ("#" + ";".join(checks) if checks else "")


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "session_cmdlets_2024.json"), encoding="utf-8") as file:
        session = json.load(file)["cmdlets"]
    with open(os.path.join(folder, "cmdlets.json"), encoding="utf-8") as file:
        documented = json.load(file)["cmdlets"]
    sys.stdout.write(HEAD)
    for name in sorted(session, key=str.lower):
        row = session[name]
        told = documented.get(name, {}).get("params", {})
        impact = {"Medium": "M", "High": "H"}[row["impact"]] if row.get("ssp") else "-"
        parameters = " ".join(parameter(p, row["params"][p], told.get(p)) for p in sorted(row["params"], key=str.lower))
        sys.stdout.write(f"{name}|{impact}|{row.get('default_set', '')}|{parameters}\n")


if __name__ == "__main__":
    main()
