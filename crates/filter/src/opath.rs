//! To come.
/// To come.
#[derive(Debug)]
pub struct ParseError;
/// To come.
pub fn parse_opath(_text: &str) -> Result<super::Filter, ParseError> {
    Err(ParseError)
}
