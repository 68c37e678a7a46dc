//! Calls, connections and the leave, over real sockets.

mod auth;
mod calls;
mod connections;
mod direct;
mod fixture;
mod leave;
