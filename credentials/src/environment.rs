//! Where a key is meant to be used.

/// Part of the value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Environment {
    /// For what counts.
    Live,
    /// For trying out.
    Test,
}

impl Environment {
    /// The word for it in the value of a key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// What a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Live, Self::Test].into_iter().find(|environment| environment.as_str() == word)
    }
}
