//! The server's half of netmon: takes what agents hear, keeps it, and shows it.
//!
//! One event's way: [`grpc`] or [`web`] takes a batch, [`ingest`] checks every event of it and queues
//! it for the one writer; the writer's [`engine`] turns batches into changes, [`store`] writes them in one
//! transaction, and only then the batch is acknowledged. [`serve`] puts the parts together. Beside that road,
//! [`enrich`] knows from elsewhere what hosts and devices are.
//! [`jobs`] take old rows away, [`commands`] are what the program does instead of serving, [`snapshot`]s come where no
//! agent runs.
//!
//! [`domain`] and [`engine`] never do I/O and never read a clock; [`store`] alone names diesel; [`web`] and
//! [`grpc`] never write to the database.
#![forbid(unsafe_code)]

pub mod auth;
pub mod cert;
pub mod clock;
pub mod commands;
mod cursor;
pub mod domain;
pub mod engine;
pub mod enrich;
pub mod grpc;
pub mod ingest;
pub mod jobs;
mod ranking;
pub mod serve;
pub mod snapshot;
pub mod store;
pub mod web;
