//! What a limiter is asked.

/// One request to be decided.
pub struct Question<'a, A: ?Sized> {
    /// Namespace of the policies.
    pub namespace: &'a str,
    /// What is known of the request.
    pub attributes: &'a A,
    /// Tokens, at least 1.
    pub cost: u64,
    /// Decide without charging.
    pub dry_run: bool,
    /// Makes a retry free; empty for none.
    pub idempotency_key: &'a str,
}

// Not derived, since that would ask the same of the attributes.
impl<A: ?Sized> Clone for Question<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: ?Sized> Copy for Question<'_, A> {}
