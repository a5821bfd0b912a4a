//! `exops completion`: the words that fit, and real shells at a terminal that ask for them.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cli::Prepared;
use crate::program::Home;
use crate::terminal::acting;

/// The words that can stand last, as the scripts ask for them.
fn complete(home: &Home, words: &[&str]) -> Vec<String> {
    home.exops(&[&["__complete"], words].concat()).exits(0).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn words_that_fit() {
    let prepared = Prepared::new(&["Global Reader"]);
    let home = &prepared.lab.home;
    // Without a connection everything that there is; with one, what its roles grant.
    assert!(complete(home, &["run", "set-mailbox"]).contains(&"Set-MailboxPlan".to_owned()));
    prepared.connect(&[]).exits(0);
    prepared.connect(&["--profile", "second"]).exits(0);
    let thumbprint = prepared.thumbprint.as_str();
    let table: &[(&[&str], &[&str])] = &[
        (&["run", "Set-Mailb"], &[]),
        (&["con"], &["connect"]),
        (&["-o", "json", "get-acceptedd"], &["Get-AcceptedDomain"]),
        (&["-vv", "get-acceptedd"], &["Get-AcceptedDomain"]),
        (&["Get-Mailbox", "-ResultS"], &["-ResultSize"]),
        (&["Get-Mailbox", "ann", "-Identity", "-ResultS"], &["-ResultSize"]),
        (&["Get-Mailbox", "ann"], &[]),
        (&["run", "Get-Mailbox", "--req"], &["--require-tenant"]),
        (&["Get-Mailbox", "--req"], &["--require-tenant"]),
        (&["lab", "app", "create", "--directory"], &["--directory-role"]),
        (&["lab", "app", "__blank"], &["create", "list", "show", "remove"]),
        (&["completion", "f"], &["fish"]),
        (&["completion", ""], &["bash", "zsh", "fish", "powershell"]),
        // PowerShell's way of writing options.
        (&["connect", "-appi"], &["-AppId"]),
        (&["connect", "-CertificateP"], &["-CertificatePasswordFile"]),
        // What an option takes.
        (&["-o", "js"], &["json", "jsonl"]),
        (&["Get-Mailbox", "-o", "y"], &["yaml"]),
        (&["run", "Get-Mailbox", "--transport", ""], &["rest", "rps"]),
        (&["--output=y"], &["--output=yaml"]),
        (&["Get-Mailbox", "--output", "=", "y"], &["yaml"]),
        (&["lab", "up", "-Seed", ""], &["standard", "large"]),
        (&["--profile", ""], &["default", "second"]),
        (&["--profile", "s"], &["second"]),
        (&["connect", "--organization", ""], &[]),
        (&["connect", "--thumbprint", &thumbprint[..4]], &[thumbprint]),
        (&["cert", "show", ""], &[thumbprint]),
        (&["explain", "Set-Mailbox", "--parameter", "EmailAddresse"], &["EmailAddresses"]),
        (&["explain", "get-acceptedd"], &["Get-AcceptedDomain"]),
        // Members of an enumeration, and the last one of a list.
        (&["Get-Recipient", "-RecipientType", "UserM"], &["UserMailbox"]),
        (&["Get-Recipient", "-RecipientType", "MailUser,UserM"], &["MailUser,UserMailbox"]),
    ];
    for (words, expected) in table {
        assert_eq!(complete(home, words), *expected, "{words:?}");
    }
    // A connection that is allowed more is offered more, by name or by variable.
    let more = Prepared::connected();
    assert_eq!(complete(&more.lab.home, &["run", "set-mailbox"]), ["Set-Mailbox"]);
    assert_eq!(complete(&more.lab.home, &["Set-Mailbox", "-CustomAttribute15"]), ["-CustomAttribute15"]);
    // Nothing that is wrong with a connection stops the completion of words.
    std::fs::write(home.path().join("profiles/default.toml"), "[[[").expect("a profile");
    assert!(complete(home, &["run", "set-mailbox"]).contains(&"Set-MailboxPlan".to_owned()));
    assert!(complete(home, &["--profile", "absent", "run", "set-mailbox"]).contains(&"Set-MailboxPlan".to_owned()));
}

/// bash, zsh and fish at a terminal: the script is loaded, and the Tab key asks.
#[cfg(unix)]
#[test]
fn shells() {
    let prepared = Prepared::connected();
    let home = &prepared.lab.home;
    let program = home.command(&[]).get_program().to_owned();
    let folder = Path::new(&program).parent().expect("a folder").to_owned();
    let search = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let (bash, zsh, fish) = (
        "source <(exops completion bash); echo LOA''DED\n",
        "autoload -Uz compinit; compinit -u -D; source <(exops completion zsh); echo LOA''DED\n",
        "exops completion fish | source; echo LOA''DED\n",
    );
    for (shell, options, load) in
        [("bash", &["--norc", "-i"][..], bash), ("zsh", &["-f", "-i"], zsh), ("fish", &["--no-config", "-i"], fish)]
    {
        if Command::new(shell).arg("-c").arg("true").stdin(Stdio::null()).output().is_err() {
            println!("NOT RUN: {shell}: the shell is not installed");
            continue;
        }
        let mut command = Command::new(shell);
        for (name, value) in home.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        command.args(options).env("PATH", &search).env("PS1", "ready> ").env("TERM", "xterm");
        // A cmdlet, its parameter, one of our options with its value: three Tabs, and what the line then does.
        let acts = json!([
            ["", load],
            ["LOADED", "exops Get-AcceptedD\t"],
            ["omain", "-Ident\t"],
            ["ity", "contoso.com --transp\t"],
            ["ort", "rp\t -o json --select Name\n"],
            ["{\"Name\":\"contoso.com\"}", "exit\n"]
        ]);
        let Some(seen) = acting(&command, None, &acts) else {
            println!("NOT RUN: pseudo-terminal: python3 is not there");
            return;
        };
        assert_eq!(seen.code, 0, "{shell}: {}", seen.screen);
    }
}

/// PowerShell is not there to load its script: that it is well formed can be seen without.
#[test]
fn the_script_for_powershell() {
    let script = Home::new().exops(&["completion", "powershell"]).exits(0).stdout;
    assert_eq!(Home::new().exops(&["completion", "pwsh"]).exits(0).stdout, script);
    assert!(script.is_ascii() && !script.contains('`'), "no continuation, no letter that depends on an encoding");
    // Comments and texts taken away, brackets close in order.
    let mut code = String::new();
    for line in script.lines() {
        assert!(line.matches('\'').count() % 2 == 0 && !line.contains('"'), "texts are in single quotes and end on their line: {line}");
        let outside: String = line.split('\'').step_by(2).collect();
        code += outside.split('#').next().unwrap_or_default();
        code.push('\n');
    }
    let mut open = Vec::new();
    for c in code.chars() {
        match c {
            '(' => open.push(')'),
            '{' => open.push('}'),
            '[' => open.push(']'),
            ')' | '}' | ']' => assert_eq!(open.pop(), Some(c), "{code}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{code}");
    // A native completer gets the word, the tree of the line and the cursor, in that order.
    assert!(code.starts_with("\nRegister-ArgumentCompleter -Native -CommandName exops -ScriptBlock {\n"), "{code}");
    let given: Vec<&str> =
        code.split(['$', '@']).skip(1).map(|v| v.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()).collect();
    let known = ["wordToComplete", "commandAst", "cursorPosition", "given", "_", "null", ""];
    assert!(given.iter().all(|v| known.contains(v)), "a variable that nobody sets: {given:?}");
    assert!(code.contains("param($wordToComplete, $commandAst, $cursorPosition)"), "{code}");
    let cmdlets = ["Register-ArgumentCompleter", "Select-Object", "ForEach-Object"];
    let words = code.split(|c: char| !(c.is_alphanumeric() || c == '-'));
    let named: Vec<&str> = words.filter(|w| w.contains('-') && !w.starts_with('-')).collect();
    assert!(!named.is_empty() && named.iter().all(|n| cmdlets.contains(n)), "{named:?}");
}
