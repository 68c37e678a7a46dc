//! Calls, connections and the leave, over real sockets.

mod calls;
mod connections;
mod direct;
mod fixture;
mod leave;
