#![allow(clippy::unwrap_used)]

use exops_psobject::json::to_plain;
use serde_json::{Value as Json, json};

use super::command;

/// What the words after a cmdlet become: `[name, value, glued]` each.
fn read(cmdlet: &str, words: &[&str]) -> Result<Json, String> {
    let words = words.iter().map(|w| (*w).to_owned()).collect();
    let command = command(cmdlet, words).map_err(|f| f.message)?;
    let dictionary = |v: &exops_psobject::Value| match v.as_object().and_then(|o| o.dictionary().map(<[_]>::to_vec)) {
        Some(entries) => Json::Object(entries.iter().map(|(k, v)| (k.display(), to_plain(v))).collect()),
        None => to_plain(v),
    };
    Ok(command.arguments.iter().map(|a| json!([a.name, a.value.as_ref().map(dictionary), a.glued])).collect())
}

#[test]
fn words_become_arguments() {
    let table: &[(&str, &[&str], Json)] = &[
        // Named, positional, switches, both ways of writing names.
        ("Get-Mailbox", &["ann", "-ResultSize", "5"], json!([[null, "ann", false], ["ResultSize", null, false], [null, "5", false]])),
        ("Get-Mailbox", &["-Archive", "ann"], json!([["Archive", null, false], [null, "ann", false]])),
        ("Get-Mailbox", &["--result-size=5", "--archive"], json!([["ResultSize", "5", true], ["Archive", null, false]])),
        ("Get-Mailbox", &["-ResultSize:5"], json!([["ResultSize", "5", true]])),
        // Booleans as PowerShell and as a shell leave them.
        ("Set-Mailbox", &["-Confirm:$false"], json!([["Confirm", false, true]])),
        ("Set-Mailbox", &["-Confirm:false", "-WhatIf:TRUE"], json!([["Confirm", false, true], ["WhatIf", true, true]])),
        (
            "Set-Mailbox",
            &["-DeliverToMailboxAndForward", "true"],
            json!([["DeliverToMailboxAndForward", null, false], [null, true, false]]),
        ),
        ("Set-Mailbox", &["-DisplayName", "true"], json!([["DisplayName", null, false], [null, "true", false]])),
        ("Set-Mailbox", &["-ForwardingSmtpAddress", "$null"], json!([["ForwardingSmtpAddress", null, false], [null, null, false]])),
        ("Get-Nothing", &["-Flag:false", "-Text", "false"], json!([["Flag", false, true], ["Text", null, false], [null, "false", false]])),
        // A comma separates items for a list only; names and addresses hold commas too.
        (
            "Set-Mailbox",
            &["-EmailAddresses", "SMTP:a@b.c,smtp:d@e.f"],
            json!([["EmailAddresses", null, false], [null, ["SMTP:a@b.c", "smtp:d@e.f"], false]]),
        ),
        (
            "Set-Mailbox",
            &["-EmailAddresses", "a@b.c,", "d@e.f", "-WhatIf"],
            json!([["EmailAddresses", null, false], [null, ["a@b.c", "d@e.f"], false], ["WhatIf", null, false]]),
        ),
        ("Set-Mailbox", &["-DisplayName", "Doe, John"], json!([["DisplayName", null, false], [null, "Doe, John", false]])),
        ("Get-Mailbox", &["CN=Ann,OU=Sales,DC=contoso"], json!([[null, "CN=Ann,OU=Sales,DC=contoso", false]])),
        // Quotes that the shell left.
        ("Set-Mailbox", &["-DisplayName", "'It''s'"], json!([["DisplayName", null, false], [null, "It's", false]])),
        ("Set-Mailbox", &["-DisplayName", "'unfinished"], json!([["DisplayName", null, false], [null, "'unfinished", false]])),
        // Tables, whole or in pieces.
        (
            "Set-Mailbox",
            &["-EmailAddresses", "@{Add='a@b.c','d@e.f'; remove=\"x@y.z\"}"],
            json!([["EmailAddresses", null, false], [null, {"Add": ["a@b.c", "d@e.f"], "remove": "x@y.z"}, false]]),
        ),
        (
            "Set-Mailbox",
            &["-EmailAddresses", "@{Add=a@b.c;", "Remove", "=", "d@e.f", "}"],
            json!([["EmailAddresses", null, false], [null, {"Add": "a@b.c", "Remove": "d@e.f"}, false]]),
        ),
        ("Get-Nothing", &["-List", "@(a,'b,c')"], json!([["List", null, false], [null, ["a", "b,c"], false]])),
        ("Get-Nothing", &["-List", "@()"], json!([["List", null, false], [null, [], false]])),
        // Values that look like names.
        ("Get-Mailbox", &["-Filter", "-not (Name -eq 'x')"], json!([["Filter", null, false], [null, "-not (Name -eq 'x')", false]])),
        ("Get-Mailbox", &["-ResultSize", "-5"], json!([["ResultSize", null, false], [null, "-5", false]])),
    ];
    for (cmdlet, words, expected) in table {
        assert_eq!(read(cmdlet, words).as_ref(), Ok(expected), "{cmdlet} {words:?}");
    }
}

#[test]
fn mistakes_are_explained() {
    let table: &[(&[&str], &str)] = &[
        (&["-Confirm:"], "'-Confirm:' has no value"),
        (&["-v"], "a single letter is never taken"),
        (&["-EmailAddresses", "System.Collections.Hashtable"], "the name of a type"),
        (&["-EmailAddresses", "@{Add='a'"], "a '}' is missing"),
        (&["-EmailAddresses", "@{'a'}"], "a name and '=' are missing"),
        (&["-EmailAddresses", "@{Add='a}"], "a closing ' is missing"),
        (&["-EmailAddresses", "@{Add=a} b"], "left over"),
        (&["-EmailAddresses", "@(((((((((("], "cannot be read"),
    ];
    for (words, expected) in table {
        let message = read("Set-Mailbox", words).unwrap_err();
        assert!(message.contains(expected), "{words:?}: {message}");
    }
    let deep = "@(".repeat(40) + &")".repeat(40);
    assert!(read("Set-Mailbox", &["-EmailAddresses", &deep]).unwrap_err().contains("levels"));
}
