//! Fixtures for the end-to-end tests: real servers on free ports, real clients, and the checker
//! that judges from the clients' own log whether a limit was ever exceeded.
//!
//! Nothing here links a service: the tests meet Tidegate as its users do, as processes behind
//! sockets. Every fixture stops what it started, by process id, when it is dropped.

pub mod api_key;
pub mod backend;
pub mod caddy;
pub mod certificates;
pub mod checker;
pub mod dice;
pub mod echo;
pub mod envoy;
pub mod eventually;
pub mod http_client;
pub mod load;
pub mod nginx;
pub mod ports;
pub mod postgres_server;
pub mod process;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_server;
pub mod relay;
pub mod rest;
pub mod roles;
pub mod rpc;
pub mod services;
pub mod stack;
pub mod test_result;
pub mod times;
pub mod tools;
pub mod turn;
pub mod up;
pub mod wall;
