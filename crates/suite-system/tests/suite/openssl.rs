//! openssl reads what is written here, and what it writes is read here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use exops_auth::assertion::{self, Request};
use exops_auth::{Algorithm, Identity, IdentityError, Signer as _, issue, pem, pfx};
use exops_testkit::{not_run, openssl as openssl_is_there};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::program::openssl;

/// A folder, and the words of an openssl command in which `@name` is a file of it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn words(&self, command: &str) -> Vec<String> {
        let file = |name: &str| self.at(name).to_string_lossy().into_owned();
        let word = |word: &str| match word.split_once('@') {
            Some((before, name)) => format!("{before}{}", file(name)),
            None => word.to_owned(),
        };
        command.split_whitespace().map(word).collect()
    }

    fn openssl(&self, command: &str) -> String {
        openssl(&self.words(command).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Whether openssl succeeds: for what it must refuse, and for what some builds cannot do.
    fn accepts(&self, command: &str) -> bool {
        let quiet = |c: &mut Command| c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success();
        quiet(Command::new("openssl").args(self.words(command)))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.at(name), content).unwrap();
    }
}

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn password(text: &str) -> SecretString {
    text.into()
}

#[test]
fn openssl_reads_what_auth_writes() {
    if openssl_is_there().is_none() {
        return;
    }
    let folder = Folder::new();
    let identity = issue::self_signed("CN=ExOPS", 30, now()).unwrap();
    folder.write("cert.pem", identity.certificate.to_pem());
    let text = folder.openssl("x509 -in @cert.pem -noout -text");
    for part in [
        "Signature Algorithm: sha256WithRSAEncryption",
        "Public-Key: (2048 bit)",
        "Digital Signature, Key Encipherment",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "Subject: CN = ExOPS",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(folder.accepts("verify -CAfile @cert.pem @cert.pem"));
    let fingerprint = folder.openssl("x509 -in @cert.pem -noout -fingerprint -sha1").replace(':', "");
    assert_eq!(fingerprint.trim().rsplit_once('=').unwrap().1, identity.certificate.sha1_thumbprint());
    // PFX with and without a password, with a chain, and a password that is not ASCII.
    folder.write("unicode.txt", "Pässwörd ☃");
    for (given, option) in [(None, "pass:"), (Some("correct"), "pass:correct"), (Some("Pässwörd ☃"), "file:@unicode.txt")] {
        folder.write("our.pfx", pfx::write(&identity, given.map(password).as_ref()).unwrap().expose_secret());
        let info = folder.openssl(&format!("pkcs12 -in @our.pfx -passin {option} -noenc"));
        assert!(info.contains("BEGIN CERTIFICATE") && info.contains("BEGIN PRIVATE KEY"), "{info}");
        assert!(folder.accepts(&format!("pkcs12 -in @our.pfx -passin {option} -noout")));
        assert!(!folder.accepts("pkcs12 -in @our.pfx -passin pass:wrong -noout"));
        folder.write("back.pem", &info);
        assert_eq!(pem::read_identity(&folder.read("back.pem"), None, None).unwrap().key.pkcs8(), identity.key.pkcs8());
    }
    folder.write("our.pem", pem::write_identity(&identity).expose_secret());
    assert!(folder.openssl("pkey -in @our.pem -check -noout").contains("valid"));
    // Signatures of assertions.
    fs::write(folder.at("pub.pem"), folder.openssl("x509 -in @cert.pem -noout -pubkey")).unwrap();
    for (algorithm, options) in [
        (Algorithm::Ps256, "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32"),
        (Algorithm::Rs256, "-sigopt rsa_padding_mode:pkcs1"),
    ] {
        let request = Request { client_id: "c", audience: "a", jti: Uuid::nil(), now: now(), chain: None };
        let prepared = assertion::prepare(&identity.certificate, algorithm, &request);
        let signature = identity.sign(algorithm, &prepared.digest()).unwrap();
        let token = assertion::finish(prepared, &identity.certificate, &signature).unwrap();
        let (input, _) = token.expose_secret().rsplit_once('.').unwrap();
        folder.write("input", input);
        folder.write("signature", signature);
        let verified = folder.openssl(&format!("dgst -sha256 {options} -verify @pub.pem -signature @signature @input"));
        assert!(verified.contains("Verified OK"), "{verified}");
    }
}

/// A lab's authority vouches for this machine and the aliases, and for nothing else.
#[test]
fn openssl_enforces_the_name_constraints() {
    if openssl_is_there().is_none() {
        return;
    }
    let folder = Folder::new();
    let alias = vec!["login.microsoftonline.com".to_owned()];
    let authority = issue::lab_authority(&alias, now()).unwrap();
    folder.write("ca.pem", authority.certificate().to_pem());
    folder.write("server.pem", issue::server_certificate(&authority, &alias, now()).unwrap().certificate.to_pem());
    let text = folder.openssl("x509 -in @ca.pem -noout -text");
    for part in [
        "CA:TRUE, pathlen:0",
        "X509v3 Name Constraints: critical",
        "DNS:localhost",
        "IP:127.0.0.0/255.0.0.0",
        "DNS:login.microsoftonline.com",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for name in ["hostname localhost", "hostname login.microsoftonline.com", "ip 127.0.0.1", "ip ::1"] {
        assert!(folder.accepts(&format!("verify -x509_strict -purpose sslserver -CAfile @ca.pem -verify_{name} @server.pem")), "{name}");
    }
    assert!(!folder.accepts("verify -CAfile @ca.pem -verify_hostname outlook.office365.com @server.pem"));
    for outside in ["outlook.office365.com", "microsoftonline.com", "notlocalhost"] {
        folder.write("outside.pem", issue::server_certificate(&authority, &[outside.to_owned()], now()).unwrap().certificate.to_pem());
        assert!(!folder.accepts("verify -CAfile @ca.pem @outside.pem"), "{outside}");
    }
}

/// K-01 and honest files: PFX in every form that openssl writes.
#[test]
fn auth_reads_the_pfx_of_openssl() {
    if openssl_is_there().is_none() {
        return;
    }
    let folder = Folder::new();
    folder.openssl("req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=ca -keyout @ca.key -out @ca.crt");
    folder.openssl("req -newkey rsa:2048 -noenc -subj /CN=leaf -keyout @key.pem -out @leaf.csr");
    folder.openssl("x509 -req -in @leaf.csr -CA @ca.crt -CAkey @ca.key -CAcreateserial -days 20 -out @cert.pem");
    folder.write("unicode.txt", "Pässwörd ☃");
    let certificate = pem::read_certificates(&folder.read("cert.pem")).unwrap().certificate;
    let rows: [(&str, &str, Option<&str>); 12] = [
        ("", "pass:correct", Some("correct")),
        ("-certfile @ca.crt -name exops", "pass:correct", Some("correct")),
        ("", "file:@unicode.txt", Some("Pässwörd ☃")),
        ("", "pass:", None),
        ("-keypbe NONE -certpbe NONE", "pass:", None),
        ("-nomac", "pass:correct", Some("correct")),
        ("-keypbe AES-128-CBC -certpbe AES-192-CBC -macalg sha512", "pass:correct", Some("correct")),
        ("-macalg sha384 -iter 10000", "pass:correct", Some("correct")),
        ("-iter 600000", "pass:correct", Some("correct")),
        ("-legacy", "pass:correct", Some("correct")),
        ("-legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES", "pass:", None),
        ("-legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-2DES", "pass:correct", Some("correct")),
    ];
    for (options, passout, given) in rows {
        let command = format!("pkcs12 -export -in @cert.pem -inkey @key.pem -out @their.pfx -passout {passout} {options}");
        if !folder.accepts(&command) {
            not_run("openssl pkcs12", &format!("this openssl cannot export with '{options}'"));
            continue;
        }
        let file = folder.read("their.pfx");
        let identity = pfx::read(&file, given.map(password).as_ref()).unwrap_or_else(|e| panic!("'{options}' {passout}: {e}"));
        assert_eq!(identity.certificate, certificate, "{options}");
        assert_eq!(identity.chain.len(), usize::from(options.contains("certfile")), "{options}");
        if given.is_some() {
            assert_eq!(pfx::read(&file, Some(&password("wrong"))).unwrap_err(), IdentityError::WrongPassword, "{options}");
            assert_eq!(pfx::read(&file, None).unwrap_err(), IdentityError::PasswordNeeded, "{options}");
        }
    }
    let export = |options: &str, certificate: &str, key: &str| {
        folder.openssl(&format!("pkcs12 -export -in @{certificate} -inkey @{key} -out @their.pfx -passout pass:x {options}"));
        pfx::read(&folder.read("their.pfx"), Some(&password("x"))).unwrap_err()
    };
    assert!(matches!(export("-iter 600001", "cert.pem", "key.pem"), IdentityError::TooMuchWork { .. }));
    folder.openssl("ecparam -name prime256v1 -genkey -noout -out @ec.key");
    folder.openssl("req -x509 -key @ec.key -days 30 -subj /CN=ec -out @ec.crt");
    assert_eq!(export("", "ec.crt", "ec.key"), IdentityError::EllipticCurve);
    folder.openssl("req -x509 -newkey rsa:1024 -noenc -days 30 -subj /CN=weak -keyout @weak.key -out @weak.crt");
    assert_eq!(export("", "weak.crt", "weak.key"), IdentityError::WeakKey { bits: 1024 });
    folder.openssl("pkcs12 -export -nokeys -in @cert.pem -out @their.pfx -passout pass:x");
    assert_eq!(pfx::read(&folder.read("their.pfx"), Some(&password("x"))).unwrap_err(), IdentityError::NoKey);
    folder.openssl("pkcs12 -export -nocerts -inkey @key.pem -out @their.pfx -passout pass:x");
    assert_eq!(pfx::read(&folder.read("their.pfx"), Some(&password("x"))).unwrap_err(), IdentityError::NoCertificate);
    if folder.accepts("pkcs12 -export -pbmac1_pbkdf2 -in @cert.pem -inkey @key.pem -out @their.pfx -passout pass:x") {
        let error = pfx::read(&folder.read("their.pfx"), Some(&password("x"))).unwrap_err();
        assert_eq!(error, IdentityError::UnsupportedProtection("PBMAC1".into()));
    }
}

/// K-02 and honest files: keys in every PEM form that openssl writes.
#[test]
fn auth_reads_the_pem_of_openssl() {
    if openssl_is_there().is_none() {
        return;
    }
    let folder = Folder::new();
    folder.openssl("req -x509 -newkey rsa:3072 -noenc -days 30 -subj /CN=exops -keyout @key.pem -out @cert.pem");
    let read = |name: &str, given: Option<&str>| {
        pem::read_identity(&folder.read("cert.pem"), Some(&folder.read(name)), given.map(password).as_ref())
    };
    let is_good = |identity: &Identity| identity.certificate.key_bits() == 3072;
    assert!(is_good(&read("key.pem", None).unwrap()));
    folder.openssl("rsa -in @key.pem -traditional -out @pkcs1.pem");
    assert!(is_good(&read("pkcs1.pem", None).unwrap()));
    for options in [
        "-v2 aes-256-cbc",
        "-v2 aes-128-cbc -v2prf hmacWithSHA512",
        "-v2 aes-256-cbc -v2prf hmacWithSHA1 -iter 10000",
        "-v2 des3",
        "-scrypt",
    ] {
        folder.openssl(&format!("pkcs8 -topk8 -in @key.pem -out @encrypted.pem -passout pass:correct {options}"));
        assert!(is_good(&read("encrypted.pem", Some("correct")).unwrap_or_else(|e| panic!("{options}: {e}"))), "{options}");
        assert_eq!(read("encrypted.pem", Some("wrong")).unwrap_err(), IdentityError::WrongPassword, "{options}");
        assert_eq!(read("encrypted.pem", None).unwrap_err(), IdentityError::PasswordNeeded, "{options}");
    }
    folder.openssl("pkcs8 -topk8 -in @key.pem -out @encrypted.pem -passout pass:x -scrypt -scrypt_p 8");
    assert!(matches!(read("encrypted.pem", Some("x")), Err(IdentityError::TooMuchWork { .. })));
    folder.openssl("pkcs8 -topk8 -in @key.pem -out @encrypted.pem -passout pass:x -iter 600001");
    assert!(matches!(read("encrypted.pem", Some("x")), Err(IdentityError::TooMuchWork { .. })));
    folder.openssl("rsa -in @key.pem -traditional -aes256 -passout pass:x -out @old.pem");
    assert!(matches!(read("old.pem", Some("x")), Err(IdentityError::UnsupportedProtection(_))));
    folder.openssl("ecparam -name prime256v1 -genkey -out @ec.pem");
    assert_eq!(read("ec.pem", None).unwrap_err(), IdentityError::EllipticCurve);
    folder.openssl("genpkey -algorithm ed25519 -out @ed.pem");
    assert!(matches!(read("ed.pem", None), Err(IdentityError::UnsupportedKey(_))));
    folder.openssl("genrsa -out @other.pem 2048");
    assert_eq!(read("other.pem", None).unwrap_err(), IdentityError::KeyMismatch { subject: "CN=exops".into() });
    folder.openssl("x509 -in @cert.pem -outform DER -out @cert.der");
    let from_der = pem::read_certificates(&folder.read("cert.der")).unwrap();
    assert_eq!(from_der.certificate, pem::read_certificates(&folder.read("cert.pem")).unwrap().certificate);
    assert!(Path::new(&folder.at("cert.der")).exists());
}
