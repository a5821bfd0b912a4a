"""What the counterpart scripts share: the lab's ready file, a token through msal, a session through pypsrp."""

import argparse
import http.client
import json
import os
import ssl
import urllib.parse

import msal
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

# What the environment says of the way to the internet does not hold for a lab on this machine: no proxy, and no other CA
# (requests lets these variables win over a session's own CA).
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1,::1"
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)

RESOURCE = "https://outlook.office365.com"


def arguments(**more: str) -> argparse.Namespace:
    """--ready, --app-id and --certificate (one PEM file with certificate and key), and more, each with its help text."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready", required=True, help="the lab's ready file")
    parser.add_argument("--app-id", required=True)
    parser.add_argument("--certificate", required=True, help="PEM with the certificate and its private key, or a PFX without password")
    for name, text in more.items():
        parser.add_argument("--" + name.replace("_", "-"), required=True, help=text)
    given = parser.parse_args()
    with open(given.ready, encoding="utf-8") as file:
        given.lab = json.load(file)
    return given


def application(given: argparse.Namespace) -> msal.ConfidentialClientApplication:
    """msal, pointed at the lab by authority and CA alone."""
    if given.certificate.endswith(".pfx"):
        credential = {"private_key_pfx_path": given.certificate}
    else:
        with open(given.certificate, encoding="ascii") as file:
            pem = file.read()
        credential = {"private_key": pem, "public_certificate": pem}
    return msal.ConfidentialClientApplication(
        given.app_id,
        authority=f"{given.lab['authority']}/{given.lab['tenant_id']}",
        client_credential=credential,
        instance_discovery=False,
        verify=given.lab["ca_file"],
    )


def token(given: argparse.Namespace) -> str:
    """An access token for Exchange; the authority's error as exception."""
    answer = application(given).acquire_token_for_client([RESOURCE + "/.default"])
    if "access_token" not in answer:
        raise SystemExit(f"no token: {answer.get('error')}: {answer.get('error_description')}")
    return answer["access_token"]


def connection(given: argparse.Namespace, bearer: str) -> WSMan:
    """A WS-Management connection as scripts opened it against Exchange: Basic that carries the bearer token."""
    url = urllib.parse.urlsplit(given.lab["powershell"])
    return WSMan(
        url.hostname,
        port=url.port,
        path=url.path.strip("/"),
        ssl=True,
        auth="basic",
        username=f"OAuthUser@{given.lab['tenant_id']}",
        password=f"Bearer {bearer}",
        cert_validation=given.lab["ca_file"],
        no_proxy=True,
    )


def pool(given: argparse.Namespace, bearer: str, host: object = None) -> RunspacePool:
    """An Exchange session; use it as context manager. Without a host nobody can be asked anything."""
    return RunspacePool(connection(given, bearer), configuration_name="Microsoft.Exchange", host=host)


def run(session: RunspacePool, cmdlet: str, **parameters: object) -> PowerShell:
    """Runs one cmdlet to its end."""
    shell = PowerShell(session)
    shell.add_cmdlet(cmdlet)
    for name, value in parameters.items():
        shell.add_parameter(name, value)
    shell.invoke()
    return shell


class Rest:
    """The REST admin API over http.client of the standard library. One connection for all calls: a server that ends it, or that leaves
    bytes of an answer behind, shows here."""

    def __init__(self, given: argparse.Namespace, bearer: str) -> None:
        url = urllib.parse.urlsplit(given.lab["admin_api"])
        self.server = http.client.HTTPSConnection(url.hostname, url.port, context=ssl.create_default_context(cafile=given.lab["ca_file"]), timeout=60)
        self.path = f"/adminapi/beta/{given.lab['tenant_id']}/InvokeCommand"
        self.headers = {
            "Content-Type": "application/json",
            "X-AnchorMailbox": f"APP:SystemMailbox{{bb558c35-97f1-4cb9-8ff7-d53741dc928c}}@{given.lab['tenant_id']}",
            "Authorization": f"Bearer {bearer}",
        }

    def post(self, cmdlet: str, parameters: dict, target: str | None = None, **headers: str | None) -> tuple[http.client.HTTPResponse, dict]:
        """The answer and its JSON. A header of None is left out; '_' in a name stands for '-'."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        body = json.dumps({"CmdletInput": {"CmdletName": cmdlet, "Parameters": parameters}})
        self.server.request("POST", target or self.path, body, {name: value for name, value in sent.items() if value is not None})
        answer = self.server.getresponse()
        text = answer.read().strip(b"\0 \r\n")
        return answer, json.loads(text) if text.startswith(b"{") else {}


def emit(step: str, **fields: object) -> None:
    """One line of JSON for the test that reads it."""
    print(json.dumps({"step": step, **fields}, ensure_ascii=False), flush=True)
