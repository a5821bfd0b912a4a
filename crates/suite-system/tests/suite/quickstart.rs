//! What a newcomer sees first.

use serde_json::Value;

use crate::program::Home;

#[test]
fn every_step_works_and_nothing_is_left() {
    let home = Home::new();
    let document = home.exops(&["quickstart", "--json"]).exits(0).json();
    assert_eq!(document["ok"], true, "{document:#}");
    let steps: Vec<&Value> = document["steps"].as_array().into_iter().flatten().collect();
    assert!(steps.len() >= 6, "{document:#}");
    for step in &steps {
        assert_eq!(step["ok"], true, "{step:#}");
        assert!(step["name"].is_string() && step["ms"].is_number(), "{step:#}");
    }
    assert_eq!(document["mailboxes"].as_array().map(Vec::len), Some(5), "{document:#}");
    let audit = document["audit"].to_string();
    assert!(audit.contains("Set-Mailbox") && audit.contains("exops-quickstart") && audit.contains("CustomAttribute1"), "{audit}");
    assert!(document["next"].as_array().is_some_and(|next| !next.is_empty()), "{document:#}");
    let left: Vec<_> = std::fs::read_dir(home.path()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "left in the user's folder: {left:?}");
}

#[test]
fn as_text_it_needs_no_terminal_and_with_keep_the_folder_stays() {
    let home = Home::new();
    let kept = home.path().join("kept");
    let run = home.exops(&["quickstart", "--keep", &kept.to_string_lossy()]).exits(0);
    assert!(!run.stdout.contains('\u{1b}') && !run.stdout.contains('\r'), "{}", run.stdout);
    for expected in [
        "contoso.onmicrosoft.com",
        "CN=ExOPS",
        "PS256",
        "Get-Mailbox -ResultSize 5",
        "PrimarySmtpAddress",
        "Search-AdminAuditLog",
        "equal to REST",
        "exops lab up",
    ] {
        assert!(run.stdout.contains(expected), "{expected:?} is missing in:\n{}", run.stdout);
    }
    assert!(kept.is_dir(), "{}", run.stdout);
}
