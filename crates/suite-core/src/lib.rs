//! suite-core
