#!/usr/bin/env python3
"""Writes nouns.txt, the table that is built into the crate.

    generate.py DATA_FOLDER

DATA_FOLDER holds `types.json` (recorded output types) and `filters_and_views.json` (filterable properties).
`facts.txt` beside this script adds what they do not say. The type of a property is, in this order: the type recorded
for that noun (for recipients also in their common base); the type recorded for a property of that name elsewhere; the type documented for the parameter of that
name; text. All but the first are marked `assumed`. Statements of facts.txt:

    type NAME FORM | CHAIN          how a type looks on the wire
    clixml|rest|json FORM = TYPE    recorded forms
    parameter DOCUMENTED = TYPE     documented parameter types
    default NAME = JSON             a default; before the first noun for all nouns, after `noun` for that one
    noun NAME = [base] KEY          begins a noun: KEY in types.json, after the recorded recipient base where it says so
    view                            not stored: shows every noun whose `listing` it is
    shows NOUN                      a view of that noun only
    kinds MEMBERS                   what -RecipientTypeDetails of the reading cmdlet takes
    listing NOUN                    the wider noun under which its objects are listed too
    chain A | B | C                 .NET type names, most derived first
    get CMDLET TASK = PARAMETERS    a reading cmdlet, its .NET task class (shown in errors), the parameters served
    set CMDLET TASK = PROPERTIES    a changing cmdlet; each parameter sets the property of its name
    ordered A B C                   sizes that must not decrease in this order
    length MIN MAX = PROPERTIES     characters that a text, or each text of a list, may have
    members PROPERTY = A B C        the only texts that a property, or each item of a list, may be set to
    names PROPERTY = A | B          names of objects that exist without being nouns; nothing else may be set
    reference PROPERTIES            hold names of recipients of the organisation
    union WHOLE SENDERS MEMBERS     a list of references that is two in one: all that are no groups, and the groups
    variant PARAMETER VALUE = JSON  what a parameter without a property sets for one of its values; null gives defaults back
    unique|shared KIND PROPERTIES   what finds an object; unique values belong to one object only
    index PROPERTIES                properties kept in the index; on a view, for all nouns that are listed under it
    (properties that may stand in a filter of the reading cmdlet and that it does not show are added, marked `unseen`)
    kind PROPERTY TYPE              the type of a property that was not recorded (still marked `assumed`)
    rename OLD NEW, drop NAMES, add NAMES    corrections of a property list (`NAME:own` drops it behind the base only)
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SESSION_FIELDS = {"PSComputerName", "RunspaceId", "PSShowComputerName"}


def read_facts():
    facts = {"type": {}, "clixml": {}, "rest": {}, "json": {}, "parameter": {}, "default": {}, "nouns": []}
    noun = None
    for line in (HERE / "facts.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "type":
            facts["type"][rest.split(" ", 1)[0]] = rest
        elif word in ("clixml", "rest", "json", "parameter"):
            left, right = rest.rsplit(" = ", 1)
            facts[word][left] = right
        elif word == "default":
            left, right = rest.split(" = ", 1)
            (noun or facts)["default"][left] = right
        elif word == "noun":
            name, key = rest.split(" = ")
            noun = {"name": name, "base": key.startswith("base "), "key": key.removeprefix("base "), "default": {},
                    "lines": [], "rename": {}, "kind": {}, "drop": set(), "add": [], "index": set(), "get": None, "recipient": False}
            facts["nouns"].append(noun)
        elif word in ("rename", "kind"):
            name, other = rest.split()
            noun[word][name] = other
        elif word == "drop":
            noun["drop"] |= set(rest.split())
        elif word == "add":
            noun["add"] = rest.split()
        elif word == "index":
            noun["index"] = set(rest.split())
        else:
            if word == "get":
                noun["get"] = rest.split()[0]
            if line in ("view", "listing Recipient"):
                noun["recipient"] = True
            noun["lines"].append(line)
    return facts


def recorded_type(facts, observed):
    """The type recorded for exactly this property, or None."""
    clixml = observed.get("clixml")
    if clixml and clixml != "null":
        return facts["clixml"].get(clixml)
    return facts["rest"].get(observed.get("rest")) or facts["json"].get(observed.get("json"))


def main():
    data = pathlib.Path(sys.argv[1])
    types = json.loads((data / "types.json").read_text())["types"]
    filterable = json.loads((data / "filters_and_views.json").read_text())["filterable"]
    facts = read_facts()
    base = next(t["props"] for name, t in types.items() if name.startswith("MailEnabledRecipient"))

    elsewhere = {}
    for properties in [base] + [types[n["key"]]["props"] for n in facts["nouns"]]:
        for name, observed in properties.items():
            if kind := recorded_type(facts, observed):
                elsewhere.setdefault(name.lower(), kind)
    for properties in (t["props"] for t in types.values()):
        for name, observed in properties.items():
            if kind := facts["clixml"].get(observed.get("clixml")):
                elsewhere.setdefault(name.lower(), kind)

    out = ["# Written by generate.py from recorded types and facts.txt. Do not edit."]
    used, nouns = set(), []
    for noun in facts["nouns"]:
        properties = {}
        if noun["base"]:
            properties.update(base)
        for name, observed in types[noun["key"]]["props"].items():
            name = noun["rename"].get(name, name)
            if name + ":own" not in noun["drop"]:
                properties.setdefault(name, observed)
        for name in noun["add"]:
            properties.setdefault(name, {})
        may_filter, plain = set(), set()
        for name, entry in filterable.items():
            if noun["get"] in entry["cmdlets"]:
                if " to " in name:
                    stem = name.split("1 to ")[0]
                    may_filter |= {f"{stem}{i}" for i in range(1, int(name.rsplit(stem, 1)[1]) + 1)}
                else:
                    may_filter.add(name)
                if not entry["wildcards"]:
                    plain.add(name.lower())
        lower = {name.lower() for name in may_filter}
        shown = {name.lower() for name in properties}
        for name in sorted(may_filter):
            if name.lower() not in shown and name not in noun["drop"]:
                properties[name] = {"unseen": True}
        nouns.append(f"\nnoun {noun['name']}")
        nouns += noun["lines"]
        for name, observed in properties.items():
            if name in SESSION_FIELDS or name in noun["drop"]:
                continue
            flags = []
            kind = recorded_type(facts, observed)
            if kind is None and noun["recipient"]:
                kind = recorded_type(facts, base.get(name, {}))
            documented = facts["parameter"].get(observed.get("param_type"))
            shape = observed.get("rest") or observed.get("json") or ""
            if kind is None:
                flags.append("assumed")
                kind = noun["kind"].get(name) or elsewhere.get(name.lower()) or documented or "Text"
                if shape.startswith(("Collection", "list")) and not facts["type"].get(kind, "").startswith(f"{kind} list"):
                    kind = "TextList"
                if shape in ("null", "") and "json" in observed and kind == "Bool":
                    kind = "Bool?"
            if "unseen" in observed:
                flags.append("unseen")
            elif name not in noun["kind"]:
                elsewhere.setdefault(name.lower(), kind)
            if kind == "DateTime" and name.endswith("UTC"):
                kind = "DateTimeUtc"
            nullable, kind = kind.endswith("?"), kind.rstrip("?")
            used.add(kind)
            default = noun["default"].get(name) or facts["default"].get(name)
            if default is None:
                is_list = facts["type"].get(kind, "").startswith(f"{kind} list")
                default = "[]" if is_list else "false" if kind == "Bool" and not nullable else "null"
            if name in noun["index"]:
                flags.append("index")
            if name.lower() in lower:
                flags.append("filter")
                if name.lower() in plain:
                    flags.append("plain")
            nouns.append(f"property {name} {kind} {','.join(flags) or '-'} {default}")

    for kind in list(used):
        form = facts["type"].get(kind, "").split(" | ")[0].split()
        if form[1:2] == ["list"]:
            used.add(form[2])
    out += [f"type {line}" for kind, line in facts["type"].items() if kind in used]
    (HERE / "nouns.txt").write_text("\n".join(out + nouns) + "\n")


main()
