"""azure-identity signs in beside msal, and both meet the authority's refusals.

Prints one line of JSON a step; the test that starts it judges them.
"""

import base64
import json
import pathlib
import ssl
import time
import urllib.error
import urllib.request

import jwt
import msal
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CertificateCredential, ClientSecretCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

import lab

given = lab.arguments(stranger="a PEM with certificate and key that nobody registered")
base, tenant, ca = given.lab["authority"], given.lab["tenant_id"], given.lab["ca_file"]
EXCHANGE, GRAPH = lab.RESOURCE + "/.default", "https://graph.microsoft.com/.default"
EXCHANGE_ID = "00000002-0000-0ff1-ce00-000000000000"
NOBODY = "11111111-2222-4333-8444-555555555555"
common = {"authority": base, "disable_instance_discovery": True, "connection_verify": ca}


def claims(token: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def mailbox(token: str) -> int:
    """HTTP status of one Get-Mailbox over REST."""
    body = json.dumps({"CmdletInput": {"CmdletName": "Get-Mailbox", "Parameters": {"ResultSize": 1}}}).encode()
    request = urllib.request.Request(f"{given.lab['admin_api']}/adminapi/beta/{tenant}/InvokeCommand", body)
    request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ca)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


# One credential for several resources: the library presents one assertion again and again.
for chain in (False, True):
    credential = CertificateCredential(tenant, given.app_id, given.certificate, send_certificate_chain=chain, **common)
    for scope in (EXCHANGE, lab.RESOURCE + "//.default", EXCHANGE_ID + "/.default", GRAPH):
        token = credential.get_token(scope)
        lab.emit("token", chain=chain, scope=scope, claims=claims(token.token), mailbox=mailbox(token.token), left=token.expires_on - time.time())
for segment in (given.lab["organization"], given.lab["organization"].upper()):
    token = CertificateCredential(segment, given.app_id, given.certificate, **common).get_token(EXCHANGE)
    lab.emit("tenant by name", segment=segment, tid=claims(token.token)["tid"])


def azure(name: str, tenant_id: str, app_id: str, scope: str, credential: dict) -> None:
    made = ClientSecretCredential if "client_secret" in credential else CertificateCredential
    try:
        made(tenant_id, app_id, **credential, **common).get_token(scope)
        lab.emit("refused", case=name, by="azure-identity", message="a token")
    except (ClientAuthenticationError, ValueError) as error:
        lab.emit("refused", case=name, by="azure-identity", message=str(error))


def by_msal(name: str, tenant_id: str, app_id: str, scope: str, credential: object) -> None:
    try:
        client = msal.ConfidentialClientApplication(
            app_id, authority=f"{base}/{tenant_id}", client_credential=credential, instance_discovery=False, verify=ca
        )
        answer = client.acquire_token_for_client([scope])
    except ValueError as error:
        answer = {"error_description": str(error)}
    message = answer.get("error_description", "a token")
    lab.emit("refused", case=name, by="msal", message=message, error=answer.get("error"), codes=answer.get("error_codes"))


def pem(path: str) -> dict:
    text = pathlib.Path(path).read_text(encoding="ascii")
    return {"private_key": text, "public_certificate": text}


for name, tenant_id, app_id, scope, certificate in (
    ("unknown tenant", NOBODY, given.app_id, EXCHANGE, given.certificate),
    ("unknown domain", "nowhere.example", given.app_id, EXCHANGE, given.certificate),
    ("unknown application", tenant, NOBODY, EXCHANGE, given.certificate),
    ("unregistered certificate", tenant, given.app_id, EXCHANGE, given.stranger),
    ("unknown resource", tenant, given.app_id, "https://nowhere.example/.default", given.certificate),
    ("scope without .default", tenant, given.app_id, lab.RESOURCE + "/Mail.Read", given.certificate),
):
    azure(name, tenant_id, app_id, scope, {"certificate_path": certificate})
    by_msal(name, tenant_id, app_id, scope, pem(certificate))
azure("wrong secret", tenant, given.app_id, EXCHANGE, {"client_secret": "not it"})
by_msal("wrong secret", tenant, given.app_id, EXCHANGE, "not it")

# Assertions that are made by hand and presented through msal.
text = pathlib.Path(given.certificate).read_text(encoding="ascii")
thumbprint = x509.load_pem_x509_certificate(text.encode()).fingerprint(hashes.SHA256())
x5t = base64.urlsafe_b64encode(thumbprint).decode().rstrip("=")
curve = ec.generate_private_key(ec.SECP256R1())


def assertion(name: str, key: object = text, algorithm: str = "PS256", header: str = x5t, **changes: object) -> None:
    now = int(time.time())
    said = {"aud": f"{base}/{tenant}/oauth2/v2.0/token", "iss": given.app_id, "sub": given.app_id, "jti": "again", "nbf": now, "exp": now + 600}
    said.update(changes)
    made = jwt.encode(said, key, algorithm=algorithm, headers={"x5t#S256": header})
    by_msal(name, tenant, given.app_id, EXCHANGE, {"client_assertion": made})


assertion("accepted")
assertion("the same name again")
assertion("expired", exp=int(time.time()) - 3600)
assertion("not yet valid", nbf=int(time.time()) + 3600)
assertion("other audience", aud="https://login.example/oauth2/v2.0/token")
assertion("other issuer", iss=NOBODY)
assertion("other subject", sub=NOBODY)
assertion("elliptic curve", key=curve, algorithm="ES256")
assertion("shared key", key="x" * 40, algorithm="HS256")
assertion("another key", key=pathlib.Path(given.stranger).read_text(encoding="ascii"))
by_msal("not a JWT", tenant, given.app_id, EXCHANGE, {"client_assertion": "a.b"})
