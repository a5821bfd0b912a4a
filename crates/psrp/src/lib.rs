//! psrp
