//! The schema as numbered files that are part of the binary.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Number, description and text of every migration, in order. A file that was released is never edited: its digest is
/// kept in the database and a difference stops the start.
pub const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "directory and audit", include_str!("../migrations/0001_directory_and_audit.sql")),
    (2, "entra", include_str!("../migrations/0002_entra.sql")),
    (3, "assertions", include_str!("../migrations/0003_assertions.sql")),
];

pub(crate) fn migrator() -> Migrator {
    let steps = MIGRATIONS.iter().map(|(number, description, text)| {
        Migration::new(*number, (*description).into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}
