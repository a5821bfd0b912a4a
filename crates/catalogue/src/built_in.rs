use crate::Catalogue;
impl Catalogue {
    /// To come.
    #[must_use]
    pub fn built_in() -> &'static Self {
        todo!()
    }
}
