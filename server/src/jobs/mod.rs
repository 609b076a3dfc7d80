//! What the server does beside serving, by the clock.

mod retention;

pub use retention::retention;
