#![allow(clippy::unwrap_used)]

use clap::CommandFactory as _;

use super::rewrite;
use crate::cmdlet_line;
use crate::options::{Cli, Transport};

fn rewritten(line: &str) -> Result<String, String> {
    let mut command = Cli::command();
    command.build();
    let words = line.split(' ').map(str::to_owned).collect();
    rewrite(&command, words).map(|(words, _)| words.join(" ")).map_err(|f| f.message)
}

#[test]
fn options_in_powershells_manner() {
    let table = [
        ("exops connect -AppId 1 -Organization c.com", "exops connect --app-id 1 --organization c.com"),
        ("exops connect -APPID:1 -org c.com", "exops connect --app-id 1 --organization c.com"),
        ("exops connect -CertificateThumbprint A -Thumbprint B", "exops connect --certificate-thumbprint A --certificate-thumbprint B"),
        ("exops connect -Certificate x.pfx", "exops connect --certificate-file-path x.pfx"),
        ("exops connect -CertificateFilePath -odd", "exops connect --certificate-file-path -odd"),
        ("exops connect -Lab:$false -ShowBanner:$false -PSSessionOption x", "exops connect"),
        ("exops Connect-ExchangeOnline -lab:true", "exops connect --lab"),
        ("exops --PROFILE a Status --JSON", "exops --profile a status --json"),
        ("exops LAB Up -HostAlias h -listen 127.0.0.1:0", "exops lab up --host-alias h --listen 127.0.0.1:0"),
        ("exops -vv -o json status", "exops -vv -o json status"),
        ("exops status -Output json", "exops status --output json"),
        ("exops cert show -- -AppId", "exops cert show -- -AppId"),
        ("exops status --what", "exops status --what"),
    ];
    for (line, expected) in table {
        assert_eq!(rewritten(line).as_deref(), Ok(expected), "{line}");
    }
    let mistakes = [
        ("exops connect -CertificatePassword x", "a password is not taken from the command line"),
        ("exops connect -Certificate-Password=x", "a password is not taken from the command line"),
        ("exops connect -Cer x", "is the start of several options"),
        ("exops connect -Apid x", "there is no option '-Apid'"),
        ("exops connect -Lab:maybe", "takes true or false"),
    ];
    for (line, expected) in mistakes {
        let message = rewritten(line).unwrap_err();
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn cmdlet_lines() {
    let read = |line: &str| cmdlet_line::read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let table = [
        ("run Get-Mailbox -o json ann", "Get-Mailbox", "ann"),
        ("Get-Mailbox -Output x", "Get-Mailbox", "-Output x"),
        ("-vv --profile p run anything --transport=rps -v --what-if", "anything", "-v --what-if"),
        ("-o list get-mailbox -- -o json --profile x", "get-mailbox", "-o json --profile x"),
    ];
    for (line, cmdlet, words) in table {
        let read = read(line).unwrap().unwrap();
        assert_eq!((read.cmdlet.as_str(), read.words.join(" ").as_str()), (cmdlet, words), "{line}");
    }
    assert_eq!(read("run x --transport rps").unwrap().unwrap().transport, Some(Transport::Rps));
    assert_eq!(read("-v run -v x").unwrap().unwrap().global.verbose, 2);
    for other in ["lab up", "run", "run --help", "Get-Mailbox --help", "--version", "connect -AppId x", "Connect-ExchangeOnline", "-o json"]
    {
        assert!(read(other).unwrap().is_none(), "{other}");
    }
    assert!(read("run x -o xls").is_err() && read("run x --profile").is_err());
}
