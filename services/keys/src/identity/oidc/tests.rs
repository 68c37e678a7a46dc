//! Real tokens.
