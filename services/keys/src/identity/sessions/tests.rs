//! On a real store, with real hashes and real tokens.

mod external;
mod invited;
mod log_in;
mod passwords;
mod refresh;
mod sign_up;
