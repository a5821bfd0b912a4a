"""The canonical form of exops, made from CLIXML: a second reading of what crates/psobject/src/canonical.rs defines.

Works on the elements of one deserialised object (no namespace), with nothing but the standard library.
"""

import base64
import re
from datetime import datetime, timedelta, timezone

# Added by remoting itself and by nothing that the cmdlet wrote.
DROPPED = {"pscomputername", "runspaceid", "psshowcomputername"}
TEXT = {"S", "URI", "Version", "XD", "SBK", "ToString"}
INTEGER = {"By", "SB", "U16", "I16", "U32", "I32", "U64", "I64"}
CONTAINER = {"LST", "IE", "STK", "QUE"}


def text(element):
    """Element text with PowerShell's _xHHHH_ escapes of UTF-16 units taken back."""
    raw = element.text or ""
    units = re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found.group(1), 16)), raw)
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def date(raw):
    """UTC with seven digits of a second; a time without zone counts as UTC."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,7}))?(Z|[+-]\d\d:\d\d)?", raw)
    moment = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    if found[3] not in (None, "Z"):
        sign = 1 if found[3][0] == "+" else -1
        moment -= sign * timedelta(hours=int(found[3][1:3]), minutes=int(found[3][4:6]))
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(found[2] or '').ljust(7, '0')}Z"


def span(raw):
    """XML duration to .NET's constant form [-][d.]hh:mm:ss[.fffffff]."""
    found = re.fullmatch(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,7}))?S)?)?", raw)
    days, hours, minutes, seconds = (int(found[group] or 0) for group in (2, 3, 4, 5))
    minutes += seconds // 60
    hours += minutes // 60
    days += hours // 24
    ticks = (found[6] or "").ljust(7, "0")
    shown = f"{hours % 24:02}:{minutes % 60:02}:{seconds % 60:02}"
    return f"{found[1]}{f'{days}.' if days else ''}{shown}{f'.{ticks}' if int(ticks) else ''}"


class Reader:
    """Reads one object; references point to what stood earlier in the same object."""

    def __init__(self):
        self.seen = {}

    def object(self, element):
        """An output object: its properties, whatever string form it has."""
        for item in element.iter("Obj"):
            self.seen[item.get("RefId")] = item
        return self.value(element, top=True)

    def properties(self, element):
        found = {}
        for item in [*element.findall("Props/*"), *element.findall("MS/*")]:
            name = re.sub("_x([0-9A-Fa-f]{4})_", lambda m: chr(int(m.group(1), 16)), item.get("N"))
            if name.lower() not in DROPPED and "@" not in name:
                found[name] = self.value(item)
        return found

    def value(self, element, top=False):
        tag = element.tag
        if tag == "Ref":
            return self.value(self.seen[element.get("RefId")])
        if tag == "Nil":
            return None
        if tag in TEXT:
            return text(element)
        if tag in INTEGER:
            return int(element.text)
        if tag == "B":
            return element.text.lower() == "true"
        if tag == "C":
            return chr(int(element.text))
        if tag in ("Sg", "Db"):
            return float(element.text)
        if tag == "D":
            return element.text
        if tag == "DT":
            return date(element.text)
        if tag == "TS":
            return span(element.text)
        if tag == "G":
            return element.text.lower()
        if tag == "BA":
            return base64.b64encode(base64.b64decode(element.text or "")).decode()
        if tag != "Obj":
            raise ValueError(f"no canonical form for <{tag}>")
        for item in element:
            if item.tag in CONTAINER:
                return [self.value(entry) for entry in item]
            if item.tag == "DCT":
                return {str(self.value(entry.find("*[@N='Key']"))): self.value(entry.find("*[@N='Value']")) for entry in item}
        shown = element.find("ToString")
        if shown is not None and not top:
            return text(shown)
        for item in element:
            if item.tag not in ("TN", "TNRef", "Props", "MS", "ToString") and not top:
                return self.value(item)
        return self.properties(element)
