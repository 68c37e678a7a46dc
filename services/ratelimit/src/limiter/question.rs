//! What a limiter is asked.

use uuid::Uuid;

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
    /// Whose counters may be charged or cleared.
    pub touches: Touches,
}

/// Whose counters a question may charge or clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Touches {
    /// Everybody's.
    #[default]
    All,
    /// Those of one organization: such as count by the attribute `organization`, which has to name it.
    Of(Uuid),
    /// The same, of an API key that is known to be of it: also such as count by the attribute `api_key`, if that is its lineage.
    OfKey {
        /// Whose the key is.
        organization: Uuid,
        /// The lineage of the key.
        lineage: Uuid,
    },
}

impl<'a, A: ?Sized> Question<'a, A> {
    /// One token is asked for and charged, whosever it is.
    pub fn new(namespace: &'a str, attributes: &'a A) -> Self {
        Self { namespace, attributes, cost: 1, dry_run: false, idempotency_key: "", touches: Touches::All }
    }
}

// Not derived, since that would ask the same of the attributes.
impl<A: ?Sized> Clone for Question<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: ?Sized> Copy for Question<'_, A> {}
