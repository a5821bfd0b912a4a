//! Tests of tiers 0 and 1 at the level of their public interfaces.
#![allow(missing_docs)]
