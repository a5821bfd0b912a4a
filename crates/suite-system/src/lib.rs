//! suite-system
