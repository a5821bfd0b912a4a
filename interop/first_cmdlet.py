"""Signs in with msal and runs one cmdlet, over REST (requests) or remote PowerShell (pypsrp): what figures.py measures exops beside."""

import requests

import lab

given = lab.arguments(transport="rest or rps")
bearer = lab.token(given)
if given.transport == "rest":
    answer = requests.post(
        f"{given.lab['admin_api']}/adminapi/beta/{given.lab['tenant_id']}/InvokeCommand",
        json={"CmdletInput": {"CmdletName": "Get-Mailbox", "Parameters": {"ResultSize": 1}}},
        headers={"Authorization": f"Bearer {bearer}"},
        verify=given.lab["ca_file"],
        timeout=60,
    )
    answer.raise_for_status()
    print(answer.json()["value"][0]["PrimarySmtpAddress"])
else:
    with lab.pool(given, bearer) as session:
        print(lab.run(session, "Get-Mailbox", ResultSize=1).output[0].adapted_properties["PrimarySmtpAddress"])
