//! Hostile peers. A bad client against the scripted endpoint, which is the real listener, front end and session layer; a bad server against
//! the real binary. Each test is named by its case, which `docs/threats.md` explains.

mod peer;
mod protocol;
mod server;
mod sessions;
mod soap;
