//! What an expression sees.

use std::fmt;

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer},
        types::{CelInt, CelString, MAP_TYPE, Type},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};

use super::super::matcher::Attributes;

/// Name of the map of attributes.
pub(super) const ATTRIBUTES: &str = "attributes";

/// Name of the tokens asked for.
pub(super) const COST: &str = "cost";

/// The variables; nothing of the request is copied into them.
pub(super) struct Scope<'a, A: ?Sized> {
    attributes: AttributeMap<'a, A>,
    cost: CelInt,
}

impl<'a, A: Attributes + ?Sized> Scope<'a, A> {
    pub(super) fn new(attributes: &'a A, cost: u64) -> Self {
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        Self { attributes: AttributeMap(attributes), cost: cost.into() }
    }
}

impl<A: Attributes + ?Sized + Sync> VariableResolver for Scope<'_, A> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable {
            ATTRIBUTES => Some(CowVal::Borrowed(&self.attributes)),
            COST => Some(CowVal::Borrowed(&self.cost)),
            _ => None,
        }
    }
}

/// Attributes as a map of CEL.
struct AttributeMap<'a, A: ?Sized>(&'a A);

impl<'a, A: Attributes + ?Sized> AttributeMap<'a, A> {
    fn find(&self, name: &dyn Val) -> Option<CelString<'a>> {
        let name = name.downcast_ref::<CelString<'_>>()?;
        self.0.find(name.inner()).map(CelString::from)
    }
}

impl<A: ?Sized> fmt::Debug for AttributeMap<'_, A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(ATTRIBUTES) // their values are nobody's to see
    }
}

impl<A: Attributes + ?Sized + Sync> Val for AttributeMap<'_, A> {
    fn get_type(&self) -> &Type {
        Self::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Self(self.0))
    }
}

impl<A: Attributes + ?Sized + Sync> Container for AttributeMap<'_, A> {
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.find(name).is_some())
    }
}

impl<A: Attributes + ?Sized + Sync> Indexer for AttributeMap<'_, A> {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let value = self.find(name).ok_or_else(|| ExecutionError::no_such_key(ATTRIBUTES))?;
        Ok(CowVal::owned(value))
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(name).map(CowVal::into_owned)
    }
}
