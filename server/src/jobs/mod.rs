//! What the server does beside serving, by the clock.

mod retention;
mod rollups;

pub use retention::retention;
pub use rollups::rollups;
