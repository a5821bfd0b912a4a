use std::io::{self, Write};

use exops_psobject::Value;

use super::{cell, printable};

/// `Format-List`: a blank line, then `Name : value` with the colons in line.
pub(super) fn object(value: &Value, first: bool, out: &mut impl Write) -> io::Result<()> {
    if !first {
        writeln!(out)?;
    }
    let Some(object) = value.as_object().filter(|o| o.properties().next().is_some()) else {
        return writeln!(out, "{}", printable(&cell(value)));
    };
    let width = object.properties().map(|(n, _)| n.chars().count()).max().unwrap_or_default();
    for (name, value) in object.properties() {
        let line = format!("{name:width$} : {}", printable(&cell(value)));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
