"""Reads whole result sets over remote PowerShell with pypsrp, and as CLIXML over plain HTTP, and prints them in canonical form, one line
of JSON a cmdlet and way."""

import urllib.parse
import xml.etree.ElementTree as ElementTree

import canonical
import lab

given = lab.arguments(cmdlets="names joined by commas, each run with -ResultSize Unlimited where it is marked with *")

bearer = lab.token(given)
with lab.pool(given, bearer) as session:
    for name in given.cmdlets.split(","):
        parameters = {"ResultSize": "Unlimited"} if name.endswith("*") else {}
        shell = lab.run(session, name.rstrip("*"), **parameters)
        objects = []
        for item in shell.output:
            # pypsrp keeps the XML of each object that it read; its own reading has no types for dates and spans.
            element = ElementTree.fromstring(item._xml)
            objects.append(canonical.Reader().object(element))
            read = [*item.adapted_properties, *item.extended_properties]
            if [name for name in read if name.lower() not in canonical.DROPPED] != list(objects[-1]):
                raise SystemExit(f"pypsrp read other properties of {item} than stand in its XML: {read}")
        lab.emit(name.rstrip("*"), objects=objects, errors=[str(record.exception) for record in shell.streams.error])

rest = lab.Rest(given, bearer)
for name in given.cmdlets.split(","):
    parameters = {"ResultSize": "Unlimited"} if name.endswith("*") else {}
    objects, target = [], rest.path
    while target:
        answer, page = rest.post(name.rstrip("*"), parameters, target, X_ResponseFormat="clixml", Prefer="odata.maxpagesize=70")
        # One row with one document, also where there is no object.
        (row,) = page["value"]
        document = ElementTree.fromstring(row["_clixml"].replace('xmlns="http://schemas.microsoft.com/powershell/2004/04"', ""))
        if document.tag != "Objs" or document.get("Version") != "1.1.0.1":
            raise SystemExit(f"{name}: no CLIXML document: {row['_clixml'][:200]}")
        # References may point to what stood in an earlier object of the same document.
        reader = canonical.Reader()
        objects += [reader.object(element) for element in document]
        link = page.get("@odata.nextLink")
        target = urllib.parse.urlsplit(link)._replace(scheme="", netloc="").geturl() if link else None
    lab.emit(f"{name.rstrip('*')} as CLIXML", objects=objects, errors=page.get("@adminapi.errors", []))
answer, page = rest.post("Get-Mailbox", {"Filter": "Alias -eq 'nobody-has-this-alias'"}, X_ResponseFormat="clixml")
lab.emit("nothing as CLIXML", objects=list(ElementTree.fromstring(page["value"][0]["_clixml"])), errors=[])
