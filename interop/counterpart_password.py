"""Passwords of new mailboxes as others send them: pypsrp's SecureString, and a secret sealed with the module file's key by
the cryptography package.

Prints one line of JSON a step.
"""

import base64
import json
import re

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pypsrp.complex_objects import ObjectMeta
from pypsrp.powershell import PowerShell

import lab

given = lab.arguments(password="the password", weak="one that is too weak")
bearer = lab.token(given)

with lab.pool(given, bearer) as session:
    session.exchange_keys()
    for step, password in (("pypsrp", given.password), ("pypsrp weak", given.weak)):
        shell = PowerShell(session)
        shell.add_cmdlet("New-Mailbox").add_parameters({
            "Name": step,
            "MicrosoftOnlineServicesID": f"{step.replace(' ', '.')}@{given.lab['organization']}",
            "Password": session.serialize(password, ObjectMeta("SS")),
        })
        shell.invoke()
        lab.emit(step, names=[item.adapted_properties.get("UserPrincipalName") for item in shell.output],
                 errors=[str(record) for record in shell.streams.error], failed=shell.had_errors)

rest = lab.Rest(given, bearer)
rest.server.request("GET", f"/adminapi/v1.0/{given.lab['tenant_id']}/EXOModuleFile?Version=3.7.0",
                        headers={"Authorization": f"Bearer {bearer}", "CommandName": "*"})
answer = rest.server.getresponse()
files = json.loads(answer.read())["value"]
key = re.search(r"\$PublicKey\s*=\s*'<RSAKeyValue><Modulus>(.*?)</Modulus><Exponent>(.*?)</Exponent></RSAKeyValue>'", files[0]["fileContent"])
modulus, exponent = (int.from_bytes(base64.b64decode(part), "big") for part in key.groups())
public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
lab.emit("module file", status=answer.status, name=files[0]["fileName"], bits=public.key_size)


def sealed(text):
    return base64.b64encode(public.encrypt(text.encode(), padding.PKCS1v15())).decode()


for step, password in (("rest", sealed(given.password)), ("rest weak", sealed(given.weak)), ("rest plain", given.password), ("rest other", sealed("x")[::-1])):
    answer, page = rest.post("New-Mailbox", {
        "Name": step,
        "MicrosoftOnlineServicesID": f"{step.replace(' ', '.')}@{given.lab['organization']}",
        "Password": password,
    })
    lab.emit(step, status=answer.status, names=[item["UserPrincipalName"] for item in page.get("value", [])], error=page.get("error"))
