"""Reads whole result sets over remote PowerShell with pypsrp and prints them in canonical form, one line of JSON a cmdlet."""

import xml.etree.ElementTree as ElementTree

import canonical
import lab

given = lab.arguments(cmdlets="names joined by commas, each run with -ResultSize Unlimited where it is marked with *")

with lab.pool(given, lab.token(given)) as session:
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
