//! The router's half of netmon: hears every connection from the kernel and carries it to the server.
//!
//! [`run`] is the whole agent. [`conntrack`] hears the kernel: it reads sockets, [`decode`] turns bytes into
//! messages, [`flows`] keeps the table of open flows and says what to report, [`addresses`] knows which end
//! is whose. Beside it run parts that hear other things: the router's own health, who is who ([`identity`]),
//! what the firewall drops ([`nflog`]), and DNS by the log of dnsmasq ([`dnslog`]). [`pipeline`] puts every
//! event into the [`spool`], and [`transport`] carries the spool to the server.
//!
//! [`decode`], [`flows`] and the direction of [`addresses`] never do I/O and never read a clock. Unsafe code
//! is in the socket module of [`conntrack`] alone. Nothing here installs anything global: the logger and the
//! signal handlers belong to `main`.
#![deny(unsafe_code)]

pub mod addresses;
pub mod config;
pub mod conntrack;
pub mod decode;
pub mod dnslog;
pub mod doctor;
pub mod dump;
pub mod flows;
mod health;
pub mod host;
pub mod identity;
mod metrics;
mod names;
pub mod nflog;
mod parts;
pub mod pipeline;
pub mod replay;
pub mod rights;
pub mod service;
pub mod spool;
pub mod transport;

pub use config::Config;
pub use pipeline::run;
