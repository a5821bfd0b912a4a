//! Tests of tiers 2 and above, of the binary and of real counterparts.
#![allow(missing_docs)]
