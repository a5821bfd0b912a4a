//! To come.
/// To come.
#[must_use]
pub fn table_columns(_type_name: &str) -> Option<&'static [&'static str]> {
    None
}
