//! One policy: what is limited, for whom, and by how much.

use std::sync::{Arc, OnceLock};

use super::{
    Expression, Level, Tariff,
    matcher::{Attributes, Condition},
};

/// One policy.
#[derive(Debug)]
pub struct Policy {
    /// Name, unique within the namespace.
    pub name: Arc<str>,
    /// Where it is declared.
    pub namespace: Arc<str>,
    /// The descriptors that it is for, level by level. If there is one, it applies to requests of Envoy's protocol only, and the key is
    /// made of all values of the descriptor; conditions there are none.
    pub descriptor: Option<Box<[Level]>>,
    /// Names of the policies for other descriptors that this one takes the place of where one request meets both.
    pub replaces: Box<[Box<str>]>,
    /// What must hold of a request, all of it.
    pub conditions: Box<[Condition]>,
    /// What must hold as well; asked last, since it is the dearest.
    pub when: Option<Arc<Expression>>,
    /// Attributes whose values make the key that is counted under; all must be there. If there are
    /// none, the whole namespace is counted under one key.
    pub key_by: Box<[Box<str>]>,
    /// The value of its only `key_by` where that is known beforehand, so that neither a request nor what is derived of it can say
    /// otherwise.
    pub subject: Option<Box<str>>,
    /// Whether it denies.
    pub enforcement: Enforcement,
    /// What it answers when the store is gone.
    pub failure_mode: FailureMode,
    /// What it answers when the store may have forgotten what was counted.
    pub on_data_loss: OnDataLoss,
    /// Which limits it sets.
    pub tariff: Tariff,
    /// The plan that callers are to be moved to whom it denies.
    pub upgrade_plan: Option<Arc<str>>,
    /// Room for the place at which its use is counted: who counts gives it once.
    pub usage_place: OnceLock<u32>,
}

impl Policy {
    /// Whether it came with a request, and not from who runs this.
    pub fn came_with_request(&self) -> bool {
        self.descriptor.as_deref().is_some_and(<[_]>::is_empty)
    }

    /// The values that make a subject's key, of a request to which it applies: of a descriptor what its
    /// entries are counted under, whose keys may be repeated.
    pub fn key_values<'a, A: Attributes + ?Sized>(
        &'a self,
        attributes: &'a A,
    ) -> impl Iterator<Item = &'a str> {
        let levels = self.descriptor.as_deref();
        self.key_by.iter().enumerate().map(move |(place, name)| match levels {
            Some(levels) => {
                let value = attributes.get(place).1;
                // The limit of a request has no levels.
                levels.get(place).map_or(value, |level| level.counted(value))
            }
            None => self
                .subject
                .as_deref()
                .or_else(|| attributes.find(name))
                .expect("a policy applies only if the attributes of its key are there"),
        })
    }

    /// Whether its key or its conditions ask for an attribute of such a name.
    pub(super) fn asks_for(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        let conditions = self.conditions.iter().map(Condition::attribute);
        self.key_by.iter().map(|name| &**name).chain(conditions).any(is_meant)
    }

    /// Whether it is on, every attribute of the key is there, and everything asked of a request holds.
    pub(super) fn applies<A: Attributes + ?Sized + Sync>(&self, attributes: &A, cost: u64) -> bool {
        self.enforcement != Enforcement::Off
            && self.descriptor.is_none()
            && self.key_by.iter().all(|name| attributes.find(name).is_some())
            && self.conditions.iter().all(|condition| condition.holds(attributes))
            && self.when.as_ref().is_none_or(|when| when.holds(attributes, cost))
    }
}

/// Whether a policy denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// It counts and denies.
    #[default]
    Enforce,
    /// It counts and reports, and never denies.
    Shadow,
    /// It does nothing, as if it were not there.
    Off,
}

impl Enforcement {
    /// Each with the word for it in policy files.
    pub const WORDS: [(&'static str, Self); 3] =
        [("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];

    /// The word for it in policy files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

/// What a policy answers when the store cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Deny.
    #[default]
    Closed,
    /// Admit, uncounted.
    Open,
    /// Count in this replica's own memory against this replica's share of each limit.
    Local,
}

impl FailureMode {
    /// Each with the word for it in policy files.
    pub const WORDS: [(&'static str, Self); 3] =
        [("closed", Self::Closed), ("open", Self::Open), ("local", Self::Local)];

    /// The word for it in policy files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Local => "local",
        }
    }
}

/// What a policy does when its store has lost what was counted last, or may have: after a failover or a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDataLoss {
    /// Count on with what is left: at most once more the limit is admitted.
    #[default]
    Accept,
    /// Deny until no limit looks back as far as the loss. Only with [`FailureMode::Closed`].
    Strict,
}

impl OnDataLoss {
    /// Each with the word for it in policy files.
    pub const WORDS: [(&'static str, Self); 2] = [("accept", Self::Accept), ("strict", Self::Strict)];

    /// The word for it in policy files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Strict => "strict",
        }
    }
}
