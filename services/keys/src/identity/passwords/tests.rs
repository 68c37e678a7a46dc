//! Real hashes.
