//! To come.
use crate::ParameterKind;
use exops_psobject::Value;
/// To come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertError;
/// To come.
///
/// # Errors
/// To come.
pub fn convert(value: &Value, _kind: ParameterKind) -> Result<Value, ConvertError> {
    Ok(value.clone())
}
