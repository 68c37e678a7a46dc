//! Values that are found by name.

use hashbrown::HashMap;

/// So many names are compared sooner than one is hashed.
const FEW: usize = 8;

/// Values by name, made once and looked up often.
#[derive(Clone, Debug)]
pub struct Names<V>(Kind<V>);

#[derive(Clone, Debug)]
enum Kind<V> {
    /// At most [`FEW`].
    Few(Box<[(Box<str>, V)]>),
    /// More.
    Many(HashMap<Box<str>, V>),
}

impl<V> Names<V> {
    /// The value of a name.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&V> {
        match &self.0 {
            Kind::Few(values) => values.iter().find(|(known, _)| **known == *name).map(|(_, value)| value),
            Kind::Many(values) => values.get(name),
        }
    }

    /// The value of a name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        match &mut self.0 {
            Kind::Few(values) => {
                values.iter_mut().find(|(known, _)| **known == *name).map(|(_, value)| value)
            }
            Kind::Many(values) => values.get_mut(name),
        }
    }

    /// Every value, to be changed, in no particular order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let (few, many) = match &mut self.0 {
            Kind::Few(values) => (Some(values), None),
            Kind::Many(values) => (None, Some(values)),
        };
        let few = few.into_iter().flatten().map(|(_, value)| value);
        few.chain(many.into_iter().flat_map(HashMap::values_mut))
    }

    /// Every name with its value, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        let (few, many) = match &self.0 {
            Kind::Few(values) => (Some(values), None),
            Kind::Many(values) => (None, Some(values)),
        };
        let few = few.into_iter().flatten().map(|(name, value)| (&**name, value));
        few.chain(many.into_iter().flatten().map(|(name, value)| (&**name, value)))
    }
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self(Kind::Few([].into()))
    }
}

impl<V> From<HashMap<Box<str>, V>> for Names<V> {
    fn from(values: HashMap<Box<str>, V>) -> Self {
        Self(if values.len() > FEW { Kind::Many(values) } else { Kind::Few(values.into_iter().collect()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other_however_many_there_are() {
        for count in [0, 1, FEW, FEW + 1, 100] {
            let values: HashMap<Box<str>, usize> =
                (0..count).map(|number| (format!("name {number}").into(), number)).collect();
            let names = Names::from(values.clone());
            assert_eq!(matches!(names.0, Kind::Few(_)), count <= FEW);
            assert!(values.iter().all(|(name, value)| names.get(name) == Some(value)), "{count}");
            let mut changed = names.clone();
            for (name, value) in &values {
                *changed.get_mut(name).expect("it is there") = value + 1;
            }
            assert!(values.iter().all(|(name, value)| changed.get(name) == Some(&(value + 1))), "{count}");
            assert!(changed.get_mut("name").is_none());
            changed.values_mut().for_each(|value| *value += 1);
            assert!(values.iter().all(|(name, value)| changed.get(name) == Some(&(value + 2))), "{count}");
            assert!([&format!("name {count}"), "", "name"].iter().all(|name| names.get(name).is_none()));
            let mut found: Vec<_> = names.iter().map(|(name, value)| (name.to_owned(), *value)).collect();
            found.sort_by_key(|(_, value)| *value);
            assert!(found.into_iter().eq((0..count).map(|number| (format!("name {number}"), number))));
        }
    }
}
