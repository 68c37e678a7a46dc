//! On a real store.
